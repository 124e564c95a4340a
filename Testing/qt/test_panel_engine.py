"""The panel: what is installed, sent and remembered before an engine is asked."""

from __future__ import annotations

import os

import slicer
from panel_tools import writeCase
from PySide6 import QtCore


def test_what_is_missing_is_installed_when_the_user_first_segments_and_not_before(panel):
    assert panel.slicer.installed == []
    panel.choose(panel.addCase())
    assert panel.slicer.installed == []
    panel.ui.segmentButton.click()
    asked = panel.slicer.installed[0]
    assert any(line.startswith("timm") for line in asked)
    assert not any(line.startswith("torch") for line in asked)


def test_declining_the_installation_starts_nothing_and_says_so(panel):
    panel.slicer.declines_install = True
    panel.choose(panel.addCase())
    panel.ui.segmentButton.click()
    assert "could not be installed" in panel.said
    assert panel.ui.segmentButton.text == "Segment"


def test_nothing_is_sent_to_a_server_without_consent(panel):
    panel.choose(panel.addCase())
    panel.ui.engineUrlLineEdit.text = "https://gpu.example:8484"
    panel.ui.segmentButton.click()
    assert "Allow sending this patient's images to https://gpu.example:8484" in panel.said
    assert panel.ui.segmentButton.text == "Segment"
    panel.ui.uploadConsentCheckBox.checked = True
    assert panel.widget.advanced.settings.consent
    panel.ui.engineUrlLineEdit.text = "https://other.example:8484"
    assert not panel.widget.advanced.settings.consent


def test_the_computers_settings_are_remembered_but_neither_token_nor_consent(panel):
    panel.ui.deviceComboBox.currentIndex = 1
    panel.ui.engineUrlLineEdit.text = "https://gpu.example:8484"
    panel.ui.engineTokenLineEdit.text = "a-secret-token-of-the-server"
    panel.ui.uploadConsentCheckBox.checked = True
    stored = {key: QtCore.QSettings().value(key) for key in QtCore.QSettings().allKeys()}
    assert stored["SOFASegment/device"] == "cpu"
    assert stored["SOFASegment/engineUrl"] == "https://gpu.example:8484"
    assert "secret" not in str(stored)
    assert not any("onsent" in key for key in stored)
    panel.widget.onReload()
    assert panel.ui.deviceComboBox.currentIndex == 1
    assert panel.ui.engineTokenLineEdit.text == ""
    assert not panel.ui.uploadConsentCheckBox.checked


def test_consent_that_was_given_for_one_patient_does_not_count_for_the_next(panel, tmp_path):
    panel.ui.engineUrlLineEdit.text = "https://gpu.example:8484"
    panel.ui.uploadConsentCheckBox.checked = True
    slicer.mrmlScene.Clear(0)
    assert not panel.ui.uploadConsentCheckBox.checked
    panel.ui.uploadConsentCheckBox.checked = True
    assert panel.drop(writeCase(tmp_path / "other"))
    panel.wait(lambda: panel.ui.t1Selector.currentNode() is not None)
    assert not panel.widget.advanced.settings.consent


def test_consent_ends_when_another_patients_volumes_are_chosen(panel):
    panel.choose(panel.addCase())
    panel.ui.engineUrlLineEdit.text = "https://gpu.example:8484"
    panel.ui.uploadConsentCheckBox.checked = True
    first = panel.ui.t1Selector.currentNode()
    panel.ui.t1Selector.setCurrentNode(None)
    panel.ui.t1Selector.setCurrentNode(first)
    assert panel.ui.uploadConsentCheckBox.checked, "the volumes are those that consent was given for"
    # As the DICOM module loads another patient, and as a user chooses a single volume of it.
    panel.ui.flairSelector.setCurrentNode(panel.addCase()["flair"])
    assert not panel.widget.advanced.settings.consent
    panel.ui.segmentButton.click()
    assert "Allow sending this patient's images" in panel.said


def test_consent_covers_what_align_makes_of_a_patients_volumes(panel):
    nodes = panel.addCase("t1c", "flair")
    nodes["flair"].SetSpacing(1.5, 1.0, 1.0)
    panel.choose(nodes)
    panel.ui.engineUrlLineEdit.text = "https://gpu.example:8484"
    panel.ui.uploadConsentCheckBox.checked = True
    panel.ui.alignButton.click()
    panel.wait(lambda: panel.ui.flairSelector.currentNode() is not nodes["flair"])
    assert panel.widget.advanced.settings.consent


def test_segment_again_opens_the_case_anew_where_the_engine_would_be_another(panel, tmp_path, monkeypatch):
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: True)
    opened = []
    panel.useSessions(lambda *args: opened.append(args) or panel.quick(*args))
    weights = tmp_path / "tuned.safetensors"
    weights.write_bytes(b"first")

    def again() -> int:
        panel.ui.segmentButton.click()
        panel.wait(lambda: panel.ui.segmentButton.text == "Segment again")
        return len(opened)

    panel.choose(panel.addCase())
    assert again() == 1
    assert panel.ui.modelLabel.text == "Segmented by thresholds on cpu."
    panel.ui.uploadConsentCheckBox.checked = True
    assert again() == 1, "nothing has changed about the engine"
    panel.ui.weightsPathLineEdit.currentPath = str(weights)
    assert again() == 2
    weights.write_bytes(b"trained on")
    os.utime(weights, (1, 1))
    assert again() == 3, "the checkpoint is another one under the same name"
    panel.ui.engineUrlLineEdit.text = "https://gpu.example:8484"
    panel.ui.uploadConsentCheckBox.checked = True
    assert again() == 4
    panel.ui.engineUrlLineEdit.text = ""
    assert again() == 5
