"""The training panel, on the real .ui, real MRML and real training processes; Qt and Slicer are stood in for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import slicer
from training_panel_tools import TrainingPanel, trainingPanel

from training_tools import writeCase

#: Most of these tests start a training, which loads PyTorch.
pytestmark = pytest.mark.slow


@pytest.fixture
def panel(slicer_stand_in: Any, tmp_path: Path) -> Iterator[TrainingPanel]:
    with trainingPanel(slicer_stand_in, tmp_path) as panel:
        yield panel


def answer(monkeypatch: pytest.MonkeyPatch, function: str, reply: bool) -> list[str]:
    """Answer a question of Slicer's; returns what was asked."""
    asked: list[str] = []
    monkeypatch.setattr(slicer.util, function, lambda text, *_args, **_more: (asked.append(text), reply)[1])
    return asked


def test_an_empty_panel_offers_only_what_can_be_done(panel):
    for name in ("startButton", "stopButton", "checkButton", "addCaseButton", "takeCaseButton", "useResultButton"):
        assert not getattr(panel.ui, name).enabled, name
    assert panel.ui.openRunButton.enabled
    assert panel.ui.casesLabel.text == "Choose the folder with the cases to train on."
    assert panel.ui.startButton.text == "Start training"
    assert panel.ui.progressFrame._native.isHidden()


def test_a_chosen_folder_is_checked_and_its_problems_are_marked(panel):
    dataset = panel.chooseDataset(prepared=False)
    assert [panel.cells("casesTable", row) for row in range(panel.ui.casesTable.rowCount)] == [
        ["✓", "Patient_0", "Patient_0", ""],
        ["✓", "Patient_1", "Patient_1", ""],
    ]
    assert panel.ui.casesLabel.text == "2 cases of 2 patients can be used."
    writeCase(dataset, "Patient_2", 2, without="t1ce")
    panel.ui.checkButton.click()
    assert not panel.ui.checkButton.enabled and panel.ui.stageLabel.text
    panel.wait(lambda: not panel.controller.busy)
    assert panel.cells("casesTable", 2) == ["✕", "Patient_2", "Patient_2", "T1c missing."]
    assert panel.ui.casesLabel.text == "2 cases of 2 patients can be used; 1 is left out."
    panel.ui.datasetPathLineEdit.currentPath = str(panel.folder / "elsewhere")
    assert panel.ui.casesTable.rowCount == 0
    assert panel.ui.casesLabel.text == "Not checked yet; Start training does it too."


def test_a_training_from_the_button_to_the_segmentation_module(panel, monkeypatch):
    panel.train(epochs=3)
    panel.wait(lambda: not panel.controller.busy)
    assert panel.said == ""
    assert panel.ui.startButton.text == "Start training"
    last, best = panel.cells("diceTable", 0), panel.cells("diceTable", 1)
    assert sum(map(float, last)) <= sum(map(float, best))
    assert best == [f"{panel.controller.result.dice[name]:.3f}" for name in ("NCR", "ED", "ET", "TC", "WT")]
    assert "Cases: 1 for training, 1 for validation; on cpu." in panel.ui.factsLabel.text
    assert "truth as lines, prediction filled" in panel.ui.previewLabel.text
    checkpoint = panel.state.runFolder / "best.safetensors"
    assert str(checkpoint) in panel.ui.cardLabel.text
    assert "1 for training, 1 for validation" in panel.ui.cardLabel.text

    shown: list[str] = []
    monkeypatch.setattr(slicer.util, "selectModule", shown.append)
    panel.ui.useResultButton.click()
    assert shown == ["SOFASegment"]
    assert panel.said == f"The next segmentation uses {checkpoint}."
    segmenting = panel.segmentModule.widgetRepresentation().self()
    assert segmenting.ui.weightsPathLineEdit.currentPath == str(checkpoint)
    assert segmenting.advanced.settings.weights == str(checkpoint)

    from SOFASegmentQt.settings import EngineSettings

    replace(EngineSettings.load(), url="https://gpu.clinic.example:8484").save()
    panel.ui.useResultButton.click()
    assert panel.said.startswith("The segmentation runs on https://gpu.clinic.example:8484, which has its own")


def test_a_start_that_was_trained_on_validation_cases_is_said_while_it_runs_and_on_the_card(panel):
    from SOFATrainingLib.card import ResultCard
    from SOFATrainingLib.follow import RunStatus
    from SOFATrainingQt.result import cardText

    words = "The start was trained on 1 of the 2 validation cases"
    status = RunStatus(facts={"training_cases": 3, "validation_cases": 2, "validation_cases_seen": 1, "device": "cpu"})
    panel.controller.statusChanged.emit(status)
    assert words in panel.ui.factsLabel.text
    card = ResultCard(Path("best.safetensors"), "run", 2, 3, 2, {"WT": 0.9}, "cpu", seenCases=1)
    assert words in cardText(card) and words not in cardText(replace(card, seenCases=0))


def test_pause_resume_and_stop(panel, monkeypatch):
    panel.train()
    assert panel.ui.startButton.text == "Pause"
    panel.wait(lambda: "left" in panel.ui.stageLabel.text)
    assert "Epoch" in panel.ui.stageLabel.text
    for name in ("epochsSpinBox", "partComboBox", "startWeightsPathLineEdit", "datasetPathLineEdit", "checkButton"):
        assert not getattr(panel.ui, name).enabled, name
    pid = panel.controller.run.child.pid
    panel.ui.startButton.click()
    assert not panel.ui.startButton.enabled
    assert panel.ui.stageLabel.text == "Writing a checkpoint…"
    panel.wait(lambda: not panel.controller.busy)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert panel.ui.startButton.text == "Resume"
    assert panel.ui.stageLabel.text.startswith("Paused · Epoch")
    assert panel.ui.useResultButton.enabled

    done = panel.controller.run.status.done
    panel.ui.startButton.click()
    panel.wait(lambda: panel.controller.run.status.done > done)
    asked = answer(monkeypatch, "confirmOkCancelDisplay", False)
    panel.ui.stopButton.click()
    assert len(asked) == 1 and panel.ui.startButton.text == "Pause"
    answer(monkeypatch, "confirmOkCancelDisplay", True)
    panel.ui.stopButton.click()
    panel.wait(lambda: not panel.controller.busy)
    assert panel.ui.startButton.text == "Start training"
    assert panel.ui.useResultButton.enabled


def test_stopping_or_quitting_while_cases_are_prepared_leaves_no_process(panel, monkeypatch):
    panel.chooseDataset(prepared=False)
    panel.chooseTiny(2)

    def preparing() -> list[psutil.Process]:
        panel.ui.startButton.click()
        panel.wait(lambda: panel.controller.phase.value == "preparing")
        assert panel.ui.startButton.text == "Pause" and not panel.ui.startButton.enabled
        return psutil.Process().children(recursive=True)

    started = preparing()
    panel.ui.stopButton.click()
    assert panel.ui.startButton.text == "Start training" and panel.ui.startButton.enabled
    assert panel.ui.progressFrame._native.isHidden()
    started += preparing()
    answer(monkeypatch, "confirmYesNoDisplay", True)
    assert panel.closeWindow()
    assert not panel.controller.busy
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []


def test_a_training_survives_another_module_and_a_reload_of_this_one(panel):
    panel.train()
    pid = panel.controller.run.child.pid
    panel.host.exit()
    done = panel.controller.run.status.done
    panel.wait(lambda: panel.controller.run.status.done > done)
    panel.widget.onReload()
    panel.host.enter()
    panel.wait(lambda: panel.controller.training and panel.controller.run.status.done > done)
    assert panel.controller.run.child.pid == pid
    assert panel.ui.startButton.text == "Pause"


def test_closing_the_scene_keeps_the_training_in_the_panel(panel):
    panel.train()
    folder = panel.state.runFolder
    slicer.mrmlScene.Clear(0)
    done = panel.controller.run.status.done
    panel.wait(lambda: panel.controller.run.status.done > done)
    assert panel.state.runFolder == folder
    assert panel.ui.startButton.text == "Pause"
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 2


def test_quitting_asks_and_then_ends_the_training_with_a_checkpoint(panel, monkeypatch):
    assert panel.closeWindow()
    panel.train()
    run = panel.controller.run
    asked = answer(monkeypatch, "confirmYesNoDisplay", False)
    assert not panel.closeWindow()
    assert len(asked) == 1 and run.running
    answer(monkeypatch, "confirmYesNoDisplay", True)
    assert panel.closeWindow()
    assert not run.running and run.resumable
    assert panel.ui.startButton.text == "Resume", "Slicer asks about the scene next, and may stay open"


def test_a_run_of_before_is_opened_and_shown(panel, monkeypatch):
    import qt

    panel.train(epochs=1, steps=0)
    panel.wait(lambda: not panel.controller.busy)
    folder = panel.state.runFolder
    slicer.mrmlScene.Clear(0)
    panel.controller.run = panel.controller.result = None
    panel.state.runFolder = None
    for name, sentence in ((folder, ""), (panel.folder, f"{panel.folder} holds no training run")):
        monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_, name=name: str(name), raising=False)
        panel.ui.openRunButton.click()
        panel.wait(lambda: panel.controller.run is not None)
        assert panel.said.startswith(sentence)
    assert str(folder) in panel.ui.cardLabel.text
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 2


def test_the_curves_take_the_views_and_give_them_back(panel):
    layout = slicer.mrmlScene.AddNode(slicer.vtkMRMLLayoutNode())
    layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
    panel.train(epochs=2)
    panel.wait(lambda: not panel.controller.busy)
    panel.ui.curvesButton.click()
    assert panel.ui.curvesButton.checked
    assert layout.IsLayoutDescription(layout.GetViewArrangement())
    plots = {
        tag: slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLPlotViewNode").GetPlotChartNode().GetTitle()
        for tag in ("SOFATrainingLoss", "SOFATrainingDice")
    }
    assert plots == {"SOFATrainingLoss": "Loss", "SOFATrainingDice": "Validation Dice"}
    panel.ui.curvesButton.click()
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView


def test_the_case_that_was_just_corrected_is_added_and_checked(panel):
    from sofa_engine.types import Modality

    dataset = panel.chooseDataset(prepared=False)
    truth, nodes = panel.takeSegmentedCase()
    assert panel.ui.truthSelector.currentNode() is truth
    assert panel.ui.flairSelector.currentNode() is nodes[Modality.FLAIR]
    assert panel.ui.caseNameLineEdit.placeholderText == "Patient"
    panel.ui.addCaseButton.click()
    assert panel.said == f"Added {dataset / 'Patient'}."
    panel.wait(lambda: not panel.controller.busy)
    assert panel.ui.casesTable.rowCount == 3
    assert panel.ui.caseNameLineEdit.placeholderText == "Patient_case2"
    panel.ui.caseNameLineEdit.text = "Patient"
    panel.ui.addCaseButton.click()
    assert "has a case Patient already, which stays as it is" in panel.said


def test_a_patient_who_is_not_segmented_yet_is_not_taken_with_anothers_truth(panel):
    panel.takeSegmentedCase()
    panel.ui.truthSelector.setCurrentNode(None)
    panel.chooseToSegment(panel.load(1))
    assert not panel.ui.takeCaseButton.enabled
    panel.widget.addCase.onTake()  # the button is as old as the last look at the scene
    assert panel.ui.truthSelector.currentNode() is None


def test_each_selector_shows_what_was_taken_last(panel):
    from sofa_engine.types import Modality

    truth, nodes = panel.takeSegmentedCase()
    # Every sequence in turn, since the one that is connected first is the one that could lag behind.
    for number, modality in enumerate((m for m in Modality if m is not Modality.T1C), 1):
        nodes = {**nodes, modality: panel.load(number)[modality]}
        panel.chooseToSegment(nodes)
        panel.ui.takeCaseButton.click()
        assert panel.state.inputs() == nodes
        assert {m: getattr(panel.ui, f"{m.value}Selector").currentNode() for m in nodes} == nodes
    assert panel.ui.truthSelector.currentNode() is truth


def test_what_was_chosen_is_saved_with_the_scene(panel, tmp_path):
    panel.chooseTiny(7)
    path = tmp_path / "scene.mrml"
    slicer.mrmlScene.SetURL(str(path))
    assert slicer.mrmlScene.Commit()
    start = panel.ui.startWeightsPathLineEdit.currentPath
    slicer.mrmlScene.Clear(0)
    assert panel.ui.startWeightsPathLineEdit.currentPath == ""
    assert panel.ui.epochsSpinBox.value == 50
    slicer.mrmlScene.SetURL(str(path))
    assert slicer.mrmlScene.Connect()
    panel.host.enter()
    assert panel.ui.startWeightsPathLineEdit.currentPath == start
    assert panel.ui.epochsSpinBox.value == 7
    assert panel.ui.partComboBox.currentIndex == 1


def test_wrong_choices_become_a_sentence_in_the_panel(panel):
    panel.chooseDataset(prepared=False)
    panel.ui.startWeightsPathLineEdit.currentPath = "/nowhere/start.safetensors"
    panel.ui.startButton.click()
    assert panel.said == "There is no checkpoint /nowhere/start.safetensors; choose another one to start with."
    assert panel.ui.startButton.text == "Start training"


def test_what_is_missing_is_installed_when_the_user_first_trains_and_not_before(panel):
    panel.ui.datasetPathLineEdit.currentPath = str(panel.folder / "not-there-yet")
    assert panel.slicer.installed == []
    panel.slicer.declines_install = True
    panel.ui.startButton.click()
    asked = panel.slicer.installed[0]
    assert {"tensorboard>=2.18", "tomli_w>=1.1", "typer>=0.15"} <= set(asked)
    assert not any(line.startswith("torch") for line in asked)
    assert "could not be installed" in panel.said
    assert panel.controller.phase.value == "idle"


def test_what_is_missing_is_installed_before_a_run_of_before_is_opened(panel, monkeypatch):
    import qt

    run = panel.folder / "run"
    run.mkdir()
    (run / "config.toml").touch()
    chosen = [""]
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: chosen[0], raising=False)
    panel.slicer.declines_install = True
    panel.ui.openRunButton.click()
    assert panel.slicer.installed == [], "no run was chosen"
    chosen[0] = str(run)
    panel.ui.openRunButton.click()
    assert {"psutil>=6", "pydantic>=2.9", "safetensors>=0.5", "tomli_w>=1.1"} <= set(panel.slicer.installed[0])
    assert "could not be installed" in panel.said
    assert panel.controller.run is None and panel.state.runFolder is None
    panel.slicer.declines_install = False
    panel.ui.openRunButton.click()
    panel.wait(lambda: panel.controller.run is not None)
    assert panel.state.runFolder == run


def test_without_a_main_window_the_panel_is_built(application, tmp_path):
    from standin.slicer_app import SlicerStandIn

    standIn = SlicerStandIn(application, mainWindow=False)
    try:
        panel = TrainingPanel(standIn, tmp_path)
        panel.chooseDataset(prepared=False)
        assert panel.ui.casesTable.rowCount == 2
    finally:
        standIn.close()


def test_the_self_test_passes(panel):
    import SOFATraining

    test = SOFATraining.SOFATrainingTest("test_AddACaseOfTheScene")
    test.setUp()
    test.test_AddACaseOfTheScene()
