"""What belongs to the computer and not to the scene: where the engine runs and what it runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import qt

_PREFIX = "SOFASegment/"


class Device(Enum):
    """Where a local engine computes; the order is that of the panel's list."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda:0"
    MPS = "mps"


@dataclass(frozen=True)
class EngineSettings:
    """How an engine is reached.

    Attributes:
        device: where a local engine computes.
        weights: file of a checkpoint; empty for the one that comes with the extension.
        url: address of an engine on a server; empty for this computer.
        token: what opens the server's engine. It is a secret and is not saved.
        consent: whether the user allows this patient's images to be sent to the server. It is not saved.
    """

    device: Device = Device.AUTO
    weights: str = ""
    url: str = ""
    token: str = ""
    consent: bool = False

    @property
    def remote(self) -> bool:
        """Whether the engine runs on another computer."""
        return bool(self.url)

    @property
    def setup(self) -> tuple[object, ...]:
        """What an engine is started or reached with, to be compared; a checkpoint that was written anew is another."""
        if self.remote:
            return (self.url, self.token)
        try:
            written = Path(self.weights).stat().st_mtime_ns if self.weights else None
        except OSError:
            written = None
        return (self.device, self.weights, written)

    def save(self) -> None:
        """Remember what may be remembered."""
        settings = qt.QSettings()
        settings.setValue(_PREFIX + "device", self.device.value)
        settings.setValue(_PREFIX + "weights", self.weights)
        settings.setValue(_PREFIX + "engineUrl", self.url)

    @staticmethod
    def load() -> EngineSettings:
        """Return what was remembered."""
        settings = qt.QSettings()

        def text(key: str) -> str:
            return str(settings.value(_PREFIX + key) or "")

        known = {device.value: device for device in Device}
        return EngineSettings(known.get(text("device"), Device.AUTO), text("weights"), text("engineUrl"))
