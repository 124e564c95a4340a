"""From the user's choices to everything that a run is told; wrong choices are refused before anything is computed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sofa_engine.errors import InputError, OutputError, WeightsError
from SOFATrainingLib.card import describe, writeAbout
from SOFATrainingLib.cases import CaseRow
from SOFATrainingLib.state import Part, TrainingState

if TYPE_CHECKING:
    from sofa_training.config import TrainingConfig
    from sofa_training.folds import Fold

_CONFIG, _FOLDS, _REQUEST = "default", "folds.json", "request.toml"
_FOLD_COUNT = 5
#: Without a graphics card the encoder is run once for so many versions of every slice, and never again.
_CACHED_VARIANTS = 4
#: A few cases are learned soon and then by heart: a run ends after so many validations that were no better.
_PATIENCE = 6


@dataclass(frozen=True)
class Choices:
    """What the user chose, checked.

    Attributes:
        dataset: folder or CSV of cases.
        results: folder of prepared cases and runs.
        start: checkpoint to begin with.
        part: which weights move.
        epochs: passes over the cases.
        configuration: the user's own TOML file, None for the shipped one.
    """

    dataset: Path
    results: Path
    start: Path
    part: Part
    epochs: int
    configuration: Path | None

    @staticmethod
    def of(state: TrainingState) -> Choices:
        """Return the scene's choices.

        Raises:
            InputError: no dataset is chosen or it is not there, or the configuration is wrong.
            WeightsError: the start cannot be used.
        """
        dataset, results = requireDataset(state), state.results
        if results is None:
            raise InputError("Choose a folder for the results.")
        chosen = Choices(dataset, results, _start(state.startWeights), state.part, state.epochs, state.configuration)
        chosen.config(steps=1000)
        return chosen

    @property
    def prepared(self) -> Path:
        """Where prepared cases are kept for all runs on this dataset."""
        return self.results / "prepared"

    def newRunFolder(self, now: datetime) -> Path:
        """Return a folder that no run has yet, named by the time."""
        name = now.strftime("run-%Y%m%d-%H%M%S")
        names = (name if number == 1 else f"{name}-{number}" for number in range(1, 1000))
        return next(self.results / each for each in names if not (self.results / each).exists())

    def config(self, steps: int, folds: Path | None = None) -> TrainingConfig:
        """Return the run's configuration.

        Args:
            steps: how many steps the optimiser will do, about; a short run is warmed up and averaged over less.
            folds: file of the folds; None while there is none yet.

        Raises:
            InputError: the user's own file is wrong.
            WeightsError: the start is no checkpoint of SOFA.
        """
        from sofa_training.config import load_config

        values: dict[str, Any] = {
            "start": str(self.start),
            "data.prepared": str(self.prepared),
            "run.epochs": self.epochs,
            "run.train": self.part.value,
        }
        # Stock weights have the network's default arrangement; SOFA's own say theirs.
        if self.start.suffix == ".safetensors":
            values["model"] = dict(describe(self.start).config)
        if folds is not None:
            values |= {"data.folds": str(folds), "data.fold": 0}
        if self.configuration is None:
            values |= _usual(self.part, self.epochs, steps)
        elif self.part is Part.ALL:
            values["run.cached_variants"] = 0
        return load_config(_CONFIG if self.configuration is None else self.configuration, values)


def requireDataset(state: TrainingState) -> Path:
    """Return the chosen dataset.

    Raises:
        InputError: there is none.
    """
    dataset = state.dataset
    if dataset is None:
        raise InputError("Choose the folder with the cases to train on.")
    if not dataset.exists():
        raise InputError(f"There is no folder {dataset}; choose the folder with the cases to train on.")
    return dataset


def splitCases(rows: Sequence[CaseRow], prepared: Path) -> Fold:
    """Return who trains and who validates: about a fifth of the patients validate, nobody where there is only one.

    The split is kept beside the prepared cases and grows with them, so that a checkpoint of an earlier run can be
    trained further without having seen the cases that validate.

    Args:
        rows: cases that have been prepared.
        prepared: their folder, with the folds of before if there were any.

    Raises:
        InputError: the folds cannot be read, or nobody is left to train on, or a patient is on both sides.
        OSError: the folds cannot be written.
    """
    from sofa_training.folds import Fold, extend_folds, make_folds, read_folds, write_folds

    path, subjects = prepared / _FOLDS, {row.case: row.subject for row in rows}
    people, pairs = len(set(subjects.values())), list(subjects.items())
    if path.is_file():
        before = read_folds(path)
    else:
        made = make_folds(pairs, max(1, min(_FOLD_COUNT, people)))
        later = (Fold((), ()),) * (_FOLD_COUNT - len(made))
        # Fold 0 validates: a patient who is alone trains, and the next one will validate.
        before = (*made, *later) if people > 1 else (*later, *made)
    folds = extend_folds(before, pairs)
    if folds != before or not path.is_file():
        write_folds(folds, path)
    train, validation = folds[0].train, folds[0].validation
    if not train:
        raise InputError(
            f"No case is left to train on: all that can be used are kept for validation. Add cases, or delete {path} "
            "to split them anew."
        )
    both = sorted({subjects[case] for case in train} & {subjects[case] for case in validation})
    if both:
        raise InputError(
            f"{both[0]} has cases for training and cases for validation in {path}, which was made when they were not "
            "known to be of one patient; delete that file to split the cases anew."
        )
    return folds[0]


def outdated(rows: Sequence[CaseRow], prepared: Path) -> list[Path]:
    """Return prepared cases that were made from other files, or from what these were before, or as other labels."""
    from sofa_training.prepared import origin_of

    files = {row: prepared / f"{row.case}.npz" for row in rows}
    return [path for row, path in files.items() if path.is_file() and origin_of(path) != row.origin]


def forget(files: Sequence[Path]) -> None:
    """Remove prepared cases, so that they are made again."""
    for path in files:
        path.unlink(missing_ok=True)
        shutil.rmtree(path.parent / ".unpacked" / path.stem, ignore_errors=True)


def preparedRows(rows: Sequence[CaseRow], prepared: Path) -> tuple[CaseRow, ...]:
    """Return the cases that have been prepared."""
    return tuple(row for row in rows if (prepared / f"{row.case}.npz").is_file())


def prepareArguments(choices: Choices) -> list[str]:
    """Return what `sofa prepare` is called with."""
    workers = max(1, (os.cpu_count() or 2) // 2)
    out = str(choices.prepared)
    return ["-m", "sofa_cli", "prepare", str(choices.dataset), "--out", out, "--skip-bad", "--workers", str(workers)]


def writeRun(choices: Choices, rows: Sequence[CaseRow], folder: Path) -> list[str]:
    """Write what a new run needs into its folder and return what `sofa train` is called with.

    Args:
        choices: of the user.
        rows: cases that have been prepared.
        folder: of the run; made here.

    Raises:
        InputError: as `splitCases`.
        OutputError: the folder cannot be written.
    """
    from sofa_training.config import dump_config
    from sofa_training.folds import Fold, write_folds

    first = choices.config(steps=1000)
    request = folder / _REQUEST
    try:
        fold = splitCases(rows, choices.prepared)
        steps = choices.epochs * max(1, len(fold.train) * max(1, first.data.slices_per_case) // first.run.batch)
        folder.mkdir(parents=True, exist_ok=True)
        # The file lists who validates; the second list makes sure that the first side has everybody else.
        write_folds([fold, Fold((), fold.train)], folder / _FOLDS)
        request.write_text(dump_config(choices.config(steps, folder / _FOLDS)), encoding="utf-8")
        sides = {"training": list(fold.train), "validation": list(fold.validation)}
        writeAbout(
            folder,
            {"dataset": str(choices.dataset), "start": str(choices.start), "prepared": str(choices.prepared), **sides},
        )
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}); choose another results folder.") from error
    return ["-m", "sofa_cli", "train", "--config", str(request), "--out", str(folder)]


def resumeArguments(folder: Path, changes: Mapping[str, Any]) -> list[str]:
    """Return what `sofa train` is called with to go on; `changes` are settings by dotted key that it goes on with."""
    settings = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    return ["-m", "sofa_cli", "train", "--resume", "--out", str(folder), *settings]


def _usual(part: Part, epochs: int, steps: int) -> dict[str, Any]:
    """Return what the panel does not ask: sizes that suit the computer, and times that suit the length of the run."""
    card = shutil.which("nvidia-smi") is not None
    return {
        "run.batch": 8 if card else 4,
        "run.precision": "bf16" if card else "fp32",
        "run.workers": min(4, max(1, (os.cpu_count() or 2) // 2)),
        "run.cached_variants": _CACHED_VARIANTS if part is Part.DECODER else 0,
        "run.validate_every": max(1, epochs // 20),
        "run.patience": _PATIENCE,
        "optimiser.warmup": min(250, steps // 10),
        "optimiser.average": max(0.9, min(0.999, 1 - 10 / max(1, steps))),
    }


def _start(chosen: Path | None) -> Path:
    if chosen is not None:
        if not chosen.is_file():
            raise WeightsError(f"There is no checkpoint {chosen}; choose another one to start with.")
        return chosen
    from sofa_engine.weights import WeightsStore

    try:
        return WeightsStore().resolve()
    except WeightsError as error:
        raise WeightsError("No checkpoint comes with this installation; choose one to start with.") from error
