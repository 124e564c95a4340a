"""The section about the engine: device, weights, server, consent, restart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from slicer.i18n import tr as _

from SOFASegmentQt.settings import Device, EngineSettings


class AdvancedSection:
    """Machine settings; changes count from the next time that Segment is pressed."""

    def __init__(self, ui: object, changed: Callable[[EngineSettings], None], restart: Callable[[], None]) -> None:
        """Fill and connect the widgets.

        Args:
            ui: widgets by name.
            changed: called with the settings whenever they change.
            restart: ends the engine, so that it starts afresh.
        """
        self._ui, self._changed = ui, changed
        self._inputs: frozenset[str] = frozenset()
        self._covered: frozenset[str] = frozenset()
        saved = EngineSettings.load()
        ui.deviceComboBox.currentIndex = list(Device).index(saved.device)
        ui.weightsPathLineEdit.currentPath = saved.weights
        ui.engineUrlLineEdit.text = saved.url
        ui.deviceComboBox.connect("currentIndexChanged(int)", self._onChanged)
        ui.weightsPathLineEdit.connect("currentPathChanged(QString)", self._onChanged)
        ui.engineUrlLineEdit.connect("textChanged(QString)", self._onUrlChanged)
        ui.engineTokenLineEdit.connect("textChanged(QString)", self._onChanged)
        ui.uploadConsentCheckBox.connect("toggled(bool)", self._onConsent)
        ui.restartEngineButton.connect("clicked()", restart)
        self._onChanged()

    @property
    def settings(self) -> EngineSettings:
        """What the widgets say."""
        return EngineSettings(
            device=list(Device)[self._ui.deviceComboBox.currentIndex],
            weights=self._ui.weightsPathLineEdit.currentPath.strip(),
            url=self._ui.engineUrlLineEdit.text.strip(),
            token=self._ui.engineTokenLineEdit.text.strip(),
            consent=self._ui.uploadConsentCheckBox.checked,
        )

    def showEngine(self, running: bool) -> None:
        """Say where the engine is."""
        settings = self.settings
        if settings.remote:
            text = _("The engine runs on {url}.").format(url=settings.url)
        else:
            text = _("The engine runs on this computer.") if running else _("The engine starts with the next case.")
        self._ui.engineStatusLabel.text = text
        self._ui.restartEngineButton.enabled = running and not settings.remote

    def withdrawConsent(self) -> None:
        """Forget the consent, which was given for one patient."""
        self._ui.uploadConsentCheckBox.checked = False

    def followInputs(self, volumeNodes: Iterable[Any]) -> None:
        """Withdraw the consent once a volume is chosen that it was not given for.

        Consent is for the volumes that were chosen when it was given: another patient's may come from any module.
        """
        self._inputs = frozenset(node.GetID() for node in volumeNodes)
        if not self._inputs <= self._covered:
            self.withdrawConsent()

    def coverCopies(self, copies: Iterable[tuple[Any, Any]]) -> None:
        """Extend the consent to volumes that were made from those it was given for.

        Args:
            copies: a volume node and what was made from it, each.
        """
        self._covered |= {copy.GetID() for volumeNode, copy in copies if volumeNode.GetID() in self._covered}

    def _onUrlChanged(self) -> None:
        self.withdrawConsent()
        self._onChanged()

    def _onConsent(self, given: bool) -> None:
        self._covered = self._inputs if given else frozenset()
        self._onChanged()

    def _onChanged(self) -> None:
        settings = self.settings
        for name in ("engineTokenLineEdit", "uploadConsentCheckBox"):
            getattr(self._ui, name).enabled = settings.remote
        for name in ("deviceComboBox", "weightsPathLineEdit"):
            getattr(self._ui, name).enabled = not settings.remote
        settings.save()
        self._changed(settings)
