"""Training from a scene: real processes, a real scene, and a network so small that an epoch takes a moment."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
import slicer
from safetensors import safe_open

from sofa_engine.itk_images import geometry_of
from sofa_engine.types import SubRegion
from SOFASegmentLib import ManualScheduler
from SOFASegmentLib.segments import Segments
from SOFATrainingLib import state as roles
from SOFATrainingLib.controller import Phase, TrainingController
from SOFATrainingLib.follow import LogFollower
from SOFATrainingLib.state import Part, TrainingState
from training_tools import CONFIGURATION, prepareDataset, writeCase, writeConfiguration, writeDataset, writeStart

#: Most of these tests start a training, which loads PyTorch.
pytestmark = pytest.mark.slow


class Trainer:
    """Somebody who trains, with a scene and a controller that is driven by hand."""

    def __init__(self, scene: Any, folder: Path) -> None:
        self.scene, self.folder = scene, folder
        self.scheduler = ManualScheduler()
        self.failures: list[str] = []
        self.warnings: list[str] = []
        self.controller = TrainingController(self.scheduler)
        self.controller.failed.connect(self.failures.append)
        self.controller.warned.connect(self.warnings.append)
        self.state = TrainingState.fromScene(scene)
        self.controller.follow(self.state)

    def choose(self, *, epochs: int = 2, part: Part = Part.ALL, prepared: bool = True) -> None:
        self.state.dataset = writeDataset(self.folder / "cases")
        if prepared:
            prepareDataset(self.state.dataset, self.state.results / "prepared")
        self.state.startWeights = writeStart(self.folder / "start.safetensors")
        self.state.configuration = writeConfiguration(self.folder / "settings.toml")
        self.state.epochs, self.state.part = epochs, part

    def wait(self, until: Callable[[], object], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not until():
            said = self.controller.run.child.said() if self.controller.run and self.controller.run.child else ""
            assert time.monotonic() < end, f"{self.controller.phase}, {self.failures}, {said[-800:]}"
            self.scheduler.step()
            time.sleep(0.02)

    def waitFor(self, phase: Phase) -> None:
        self.wait(lambda: self.controller.phase is phase)

    def train(self, **choices: Any) -> None:
        self.choose(**choices)
        self.controller.start()
        self.wait(lambda: not self.controller.busy)
        assert self.failures == []

    def trainUntilStep(self, steps: int, epochs: int = 400) -> None:
        """Start a training that takes longer than the test and let it do some steps."""
        self.choose(epochs=epochs)
        self.controller.start()
        self.wait(lambda: self.controller.phase is Phase.TRAINING and self.controller.run.status.done >= steps)

    def losses(self) -> list[float]:
        events = LogFollower(self.controller.run.folder)
        events.read()
        return [row[1] for row in events.status.losses()]


@pytest.fixture
def trainer(scene: Any, tmp_path: Path) -> Iterator[Trainer]:
    trainer = Trainer(scene, tmp_path)
    yield trainer
    if trainer.controller.run is not None and trainer.controller.run.child is not None:
        trainer.controller.run.child.end()
    trainer.controller.stop()
    trainer.controller.close()


def column(table: Any, name: str) -> np.ndarray:
    return slicer.util.arrayFromTableColumn(table, name)


def test_a_training_runs_from_a_folder_of_cases_to_a_checkpoint_with_its_card(trainer: Trainer):
    trainer.train(epochs=3, prepared=False)
    controller, state = trainer.controller, trainer.state
    assert controller.phase is Phase.FINISHED
    assert [row.mark.value for row in controller.rows] == ["good", "good"]
    card = controller.result
    assert card.path == state.runFolder / "best.safetensors"
    assert (card.trainingCases, card.validationCases) == (1, 1)
    assert 1 <= card.epochs <= 3
    assert set(card.dice) == {"NCR", "ED", "ET", "TC", "WT"}
    assert card.dataset == str(state.dataset)

    loss, dice = state.get(roles.LOSS_TABLE), state.get(roles.DICE_TABLE)
    assert list(column(loss, "Epoch")) == [1.0, 2.0, 3.0]
    assert column(loss, "Both passes").min() > 0
    assert list(column(dice, "Epoch")) == [1.0, 2.0, 3.0]
    assert state.get(roles.LOSS_CHART).GetNumberOfPlotSeriesNodes() == 3
    assert state.get(roles.DICE_CHART).GetNumberOfPlotSeriesNodes() == 5
    assert [node.GetYColumnName() for node in state.getAll(roles.DICE_SERIES)] == ["NCR", "ED", "ET", "TC", "WT"]


def test_decoder_and_attention_learn_while_the_encoder_stays_as_it_was(trainer: Trainer):
    trainer.choose(epochs=1, part=Part.DECODER)
    trainer.state.configuration = None  # as most users have it
    trainer.controller.start()
    trainer.wait(lambda: not trainer.controller.busy)
    assert trainer.failures == []
    with (
        safe_open(trainer.state.startWeights, framework="numpy") as start,
        safe_open(trainer.controller.result.path, framework="numpy") as end,
    ):
        changed = {k for k in start.keys() if not np.array_equal(start.get_tensor(k), end.get_tensor(k))}
    assert any(key.startswith("mask_decoder.") for key in changed)
    assert any(key.startswith("attention.") for key in changed)
    assert not any(key.startswith("image_encoder.") for key in changed)
    folder = trainer.controller.run.folder
    assert not (folder / "embeddings").exists()
    assert len(trainer.warnings) == 1 and f"GB in {folder} until it has ended" in trainer.warnings[0]


def test_the_preview_lies_where_the_patient_lies(trainer: Trainer):
    trainer.train()
    preview, volume = trainer.controller.preview, trainer.state.get(roles.PREVIEW_VOLUME)
    assert preview.case in {"Patient_0", "Patient_1"}
    file = trainer.state.dataset / preview.case / f"{preview.case}_seg.nii.gz"
    whole = sitk.ReadImage(str(file))
    truth = trainer.state.get(roles.PREVIEW_TRUTH)
    shown = Segments(truth, preview.geometry).readLabels()
    place = preview.geometry.index_to_ras(np.argwhere(shown == SubRegion.NCR.label).mean(axis=0))
    index = np.rint(geometry_of(whole).ras_to_index(place)).astype(int)
    assert sitk.GetArrayFromImage(whole)[tuple(index)] == SubRegion.NCR.label
    assert volume.GetImageData().GetDimensions()[2] == 1
    assert not truth.GetDisplayNode().GetVisibility2DFill()
    assert trainer.state.get(roles.PREVIEW_FOUND).GetDisplayNode().GetVisibility2DFill()


def test_pausing_frees_the_process_and_resuming_learns_the_same_as_without_a_pause(trainer: Trainer):
    trainer.trainUntilStep(2, epochs=6)
    run = trainer.controller.run
    child = psutil.Process(run.child.pid)
    trainer.controller.pause()
    trainer.wait(lambda: not trainer.controller.busy)
    assert trainer.failures == []
    if trainer.controller.phase is Phase.FINISHED:
        pytest.skip("the machine trained six epochs before it could be paused")
    assert trainer.controller.phase is Phase.PAUSED
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert not (run.folder / "stop").exists()
    paused = trainer.losses()

    trainer.controller.resume()
    assert trainer.controller.phase is Phase.TRAINING
    trainer.wait(lambda: not trainer.controller.busy)
    assert trainer.failures == []
    assert trainer.controller.phase is Phase.FINISHED
    resumed = trainer.losses()
    assert len(resumed) == 6 and resumed[: len(paused)] == paused

    trainer.controller.start()
    trainer.wait(lambda: not trainer.controller.busy)
    assert trainer.losses() == resumed


def test_stopping_keeps_what_was_learned_as_the_result(trainer: Trainer):
    trainer.trainUntilStep(3)
    trainer.controller.stop()
    assert trainer.controller.phase is Phase.STOPPING
    trainer.wait(lambda: not trainer.controller.busy)
    assert trainer.controller.phase is Phase.FINISHED
    assert trainer.failures == []
    assert trainer.controller.result.path.is_file()


def test_a_run_that_does_not_stop_in_time_is_ended_with_all_that_it_started(trainer: Trainer):
    trainer.trainUntilStep(2)
    child = psutil.Process(trainer.controller.run.child.pid)
    child.suspend()  # a process that hangs
    trainer.controller.stop()
    trainer.controller.run._deadline = 0.0
    trainer.wait(lambda: not trainer.controller.busy)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert trainer.controller.phase in (Phase.FINISHED, Phase.PAUSED)
    assert trainer.failures == []


def test_a_killed_training_is_reported_and_can_be_resumed(trainer: Trainer):
    trainer.trainUntilStep(3, epochs=8)
    psutil.Process(trainer.controller.run.child.pid).kill()
    trainer.wait(lambda: not trainer.controller.busy)
    assert trainer.controller.phase is Phase.PAUSED
    assert len(trainer.failures) == 1
    assert trainer.failures[0].startswith("The training ended unexpectedly")
    assert trainer.failures[0].endswith("Resume goes on from its last checkpoint.")
    trainer.controller.resume()
    trainer.waitFor(Phase.FINISHED)
    assert len(trainer.losses()) == 8


def test_closing_the_scene_during_a_run_loses_nothing_and_the_next_scene_shows_it(trainer: Trainer):
    trainer.trainUntilStep(2)
    folder = trainer.controller.run.folder
    trainer.controller.follow(None)
    trainer.scene.Clear(False)
    done = trainer.controller.run.status.done
    trainer.wait(lambda: trainer.controller.run.status.done > done)
    assert trainer.scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
    trainer.state = TrainingState.fromScene(trainer.scene)
    trainer.controller.follow(trainer.state)
    assert trainer.state.runFolder == folder
    assert trainer.state.get(roles.LOSS_TABLE).GetNumberOfRows() > 0
    done = trainer.controller.run.status.done
    trainer.wait(lambda: trainer.controller.run.status.done > done)
    assert trainer.failures == []


def test_a_run_is_found_again_by_whoever_comes_later(trainer: Trainer):
    trainer.trainUntilStep(2)
    pid = trainer.controller.run.child.pid
    trainer.controller.close()
    assert psutil.Process(pid).is_running()
    later = Trainer(trainer.scene, trainer.folder)
    later.wait(lambda: later.controller.phase is Phase.TRAINING)
    assert later.controller.run.child.pid == pid
    later.wait(lambda: later.controller.run.status.done > 2)
    later.controller.pause()
    later.waitFor(Phase.PAUSED)
    assert later.failures == []
    later.controller.close()


def test_ending_slicer_pauses_the_training_which_goes_on_if_slicer_stays_open(trainer: Trainer):
    trainer.trainUntilStep(2)
    run = trainer.controller.run
    trainer.controller.endWithSlicer()
    assert not run.running
    # Slicer may ask about the scene next, and the user may stay.
    assert trainer.controller.phase is Phase.PAUSED and trainer.controller.resumable
    done = run.status.done
    trainer.controller.resume()
    trainer.wait(lambda: trainer.controller.run.status.done > done)
    assert trainer.failures == []


def test_cases_with_problems_are_marked_and_left_out(trainer: Trainer):
    trainer.choose(epochs=1)
    writeCase(trainer.state.dataset, "Patient_7", 3, without="t2")
    writeCase(trainer.state.dataset, "Patient_8", 2, without="seg")
    trainer.controller.check()
    trainer.waitFor(Phase.CHECKING)
    trainer.wait(lambda: not trainer.controller.busy)
    rows = {row.case: row for row in trainer.controller.rows}
    assert [rows[name].mark.value for name in sorted(rows)] == ["good", "good", "error", "error"]
    assert rows["Patient_7"].problem == "T2 missing."
    assert rows["Patient_8"].problem == "There is no truth."
    trainer.controller.start()
    trainer.waitFor(Phase.FINISHED)
    assert trainer.controller.result.trainingCases == 1


def test_a_case_that_cannot_be_prepared_is_left_out_and_named(trainer: Trainer):
    trainer.choose(epochs=1)
    damaged = writeCase(trainer.state.dataset, "Patient_9", 3) / "Patient_9_flair.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-2000])  # the header is whole, so that checking alone finds nothing
    trainer.controller.start()
    trainer.waitFor(Phase.FINISHED)
    assert len(trainer.warnings) == 1
    assert trainer.warnings[0].startswith("1 of 3 cases are left out:")
    assert "Patient_9" in trainer.warnings[0]


def test_stopping_while_cases_are_prepared_leaves_no_process(trainer: Trainer):
    trainer.choose(prepared=False)
    trainer.controller.start()
    trainer.waitFor(Phase.PREPARING)
    process = psutil.Process(trainer.controller._watch.child.pid)
    trainer.controller.stop()
    assert trainer.controller.phase is Phase.IDLE
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert trainer.failures == [] and trainer.controller.run is None


def pausedRun(folder: Path) -> Path:
    """Make the folder of a run that was paused."""
    folder.mkdir()
    for name in ("config.toml", "last.pt"):
        (folder / name).touch()
    return folder


def test_stopping_a_check_of_the_cases_leaves_a_paused_run_paused(trainer: Trainer):
    trainer.controller.openRun(pausedRun(trainer.folder / "run"))
    trainer.waitFor(Phase.PAUSED)
    trainer.state.dataset = writeDataset(trainer.folder / "cases")
    trainer.controller.check()
    assert trainer.controller.phase is Phase.CHECKING
    trainer.controller.stop()
    assert trainer.controller.phase is Phase.PAUSED and trainer.controller.resumable


def test_a_case_that_was_corrected_since_is_prepared_again(trainer: Trainer):
    trainer.train(epochs=1)
    file = trainer.state.results / "prepared" / "Patient_0.npz"
    before = file.stat().st_mtime_ns
    truth = trainer.state.dataset / "Patient_0" / "Patient_0_seg.nii.gz"
    later = time.time() + 5
    os.utime(truth, (later, later))  # as if it had been written again
    trainer.controller.start()
    trainer.wait(lambda: not trainer.controller.busy)
    assert file.stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: setattr(s, "dataset", None), "Choose the folder with the cases to train on."),
        (lambda s: setattr(s, "dataset", s.dataset.with_name("gone")), "There is no folder"),
        (lambda s: setattr(s, "startWeights", s.dataset / "gone.safetensors"), "There is no checkpoint"),
        (
            lambda s: setattr(s, "startWeights", s.configuration.rename(s.configuration.with_suffix(".safetensors"))),
            "is no checkpoint of SOFA",
        ),
        (lambda s: s.configuration.write_text("[run]\nepoch = 3\n", encoding="utf-8"), "run.epoch is not a known key"),
    ],
)
def test_wrong_choices_are_refused_with_one_sentence_before_anything_starts(
    trainer: Trainer, change: Any, sentence: str
):
    trainer.choose(prepared=False)
    change(trainer.state)
    trainer.controller.start()
    assert trainer.controller.phase is Phase.IDLE
    assert len(trainer.failures) == 1 and sentence in trainer.failures[0]
    assert not (trainer.folder / "cases-training").exists()


def test_a_folder_without_cases_is_refused_with_one_sentence(trainer: Trainer):
    trainer.choose()
    empty = trainer.folder / "empty"
    empty.mkdir()
    trainer.state.dataset = empty
    trainer.controller.check()
    trainer.wait(lambda: trainer.controller.phase is Phase.IDLE)
    assert len(trainer.failures) == 1 and trainer.failures[0].startswith("No case was found in")


def test_a_training_whose_loss_is_lost_says_why(trainer: Trainer):
    trainer.choose(epochs=50)
    writeConfiguration(trainer.state.configuration, CONFIGURATION.replace("rate = 1e-3", "rate = 1e30"))
    trainer.controller.start()
    trainer.wait(lambda: not trainer.controller.busy)
    assert len(trainer.failures) == 1
    assert "Lower optimiser.rate" in trainer.failures[0]


def test_opening_a_folder_that_is_no_run_says_so(trainer: Trainer, tmp_path: Path):
    trainer.controller.openRun(tmp_path)
    assert trainer.failures == [f"{tmp_path} holds no training run; choose a folder named run-…."]


@pytest.mark.parametrize("missing", ["psutil", "pydantic", "safetensors", "tomli_w"])
def test_a_scene_with_a_run_is_quiet_where_packages_are_not_installed_yet(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, missing: str
):
    trainer.state.runFolder = pausedRun(trainer.folder / "run")
    with monkeypatch.context() as fresh:
        fresh.setitem(sys.modules, missing, None)
        trainer.controller.follow(trainer.state)
        trainer.scheduler.drain()
    assert trainer.controller.run is None and trainer.controller.phase is Phase.IDLE and trainer.failures == []
    trainer.controller.follow(trainer.state)
    trainer.waitFor(Phase.PAUSED)


def test_the_users_nodes_stay_as_they_are(trainer: Trainer):
    table = trainer.scene.AddNewNodeByClass("vtkMRMLTableNode", "SOFA training loss")
    chart = trainer.scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "SOFA loss")
    trainer.train(epochs=1)
    assert table.GetNumberOfColumns() == 0 and chart.GetNumberOfPlotSeriesNodes() == 0
    assert trainer.state.get(roles.LOSS_TABLE) is not table
    assert trainer.state.get(roles.LOSS_CHART) is not chart
