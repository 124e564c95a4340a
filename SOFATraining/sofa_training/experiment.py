"""The paper's experiments as configurations: train a row on a fold, measure it under named protocols, resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sofa_engine.errors import CancelledError, InputError
from sofa_engine.loading import load_predictor
from sofa_engine.model.checkpoint import save_checkpoint
from sofa_engine.predictor import Predictor
from sofa_engine.types import MODALITIES
from sofa_training.averaged import AveragedSequences
from sofa_training.cases import find_cases
from sofa_training.config import TrainingConfig, load_config
from sofa_training.evaluation import CaseResult, EvaluationOptions, evaluate
from sofa_training.folds import read_folds
from sofa_training.protocols import Protocol
from sofa_training.report import CASES, REPORT, write_report
from sofa_training.run_folder import LAST, resume_config
from sofa_training.runlog import FILE as LOG_FILE
from sofa_training.runlog import read_log
from sofa_training.start import build_model
from sofa_training.state import FILE as STATE_FILE
from sofa_training.summary import RegionSummary, read_case_table, summarise
from sofa_training.trainer import Listener, train
from sofa_training.tta import MirroredPredictor

#: The protocol that the paper seems to have used, and the one that helps with nothing.
PROTOCOLS = (Protocol.ORACLE, Protocol.AUTO)

_NO_ATTENTION = {"model.attention": "mean", "model.prompting": False}


@dataclass(frozen=True)
class Row:
    """One row of the paper's tables, or of what goes beyond them.

    Attributes:
        title: for people.
        overrides: of the "paper" configuration, by dotted key.
        trains: False for weights as they are published.
        mirrored: measured with test-time augmentation, with the weights of the row named in `weights_of`.
        weights_of: another row whose training this one uses.
    """

    title: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    trains: bool = True
    mirrored: bool = False
    weights_of: str | None = None


def _single(sequence: str) -> Row:
    return Row(f"{sequence.upper()} alone", {"modalities": [sequence], **_NO_ATTENTION})


ROWS: Mapping[str, Row] = {
    **{sequence: _single(sequence) for sequence in ("t1", "t1c", "t2", "flair")},
    # Concatenated channels through inflated first-layer weights (each a quarter) are the mean image, since that layer
    # is linear; the box around the whole image is what the untrained first pass starts from.
    "pretrained": Row("Multi-modal, weights as published, channels concatenated", {}, trains=False),
    "finetuned": Row("Multi-modal, fine-tuned", _NO_ATTENTION),
    "attention": Row("Fine-tuned + attention", {"model.prompting": False}),
    "prompting": Row("Fine-tuned + prompting", {"model.attention": "mean"}),
    "full": Row("Full framework"),
    "2.5d": Row("Full + neighbouring slices", {"model.encoder.context": 3}),
    "all-masks": Row("Full + all three masks per iteration", {"loss.sub_regions": "all"}),
    "difficulty": Row("Full + difficulty-weighted loss", {"loss.difficulty": 1.0}),
    "temperature": Row("Full + learned temperature", {"model.mode": "default", "model.learned_temperature": True}),
    "tta": Row("Full + test-time augmentation", mirrored=True, weights_of="full"),
}


@dataclass(frozen=True)
class Plan:
    """One experiment.

    Attributes:
        dataset: raw cases, which results are measured on.
        prepared: the same, prepared, with folds.json.
        out: folder of runs and tables.
        rows: keys of `ROWS`, in order.
        folds: which folds; (0,) is the paper's 296/73.
        start: LiteMedSAM's weights, None for random ones.
        overrides: of every row's configuration.
    """

    dataset: Path
    prepared: Path
    out: Path
    rows: tuple[str, ...] = tuple(ROWS)
    folds: tuple[int, ...] = (0,)
    start: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)


def row_config(plan: Plan, row: str, fold: int) -> TrainingConfig:
    """Return the configuration of one run.

    Raises:
        InputError: there is no such row, or an override is wrong.
    """
    if row not in ROWS:
        raise InputError(f"There is no row {row}; choose among {', '.join(ROWS)}.")
    data = {"data.prepared": str(plan.prepared), "data.folds": str(plan.prepared / "folds.json"), "data.fold": fold}
    start = {"start": str(plan.start)} if plan.start is not None else {}
    return load_config("paper", {**data, **start, **plan.overrides, **ROWS[row].overrides})


def run_experiment(
    plan: Plan,
    *,
    device: str = "auto",
    listener: Listener | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, tuple[RegionSummary, ...]]:
    """Train and measure every row on every fold; what an earlier call finished is not done again.

    Args:
        plan: what to run.
        device: where to measure.
        listener: told every event of the trainings.
        progress: told in words what is being done.

    Returns:
        The summary of each row over the cases of all folds.
    """
    summaries: dict[str, tuple[RegionSummary, ...]] = {}
    for row in plan.rows:
        results: list[CaseResult] = []
        for fold in plan.folds:
            if progress is not None:
                progress(f"{ROWS[row].title if row in ROWS else row}, fold {fold}")
            results += _row_on_fold(plan, row, fold, device, listener)
        summaries[row] = summarise(results)
    return summaries


def _row_on_fold(plan: Plan, row: str, fold: int, device: str, listener: Listener | None) -> tuple[CaseResult, ...]:
    config = row_config(plan, row, fold)
    folder = plan.out / row / f"fold{fold}"
    _refuse_other_settings(plan, ROWS[row].weights_of or row, fold)
    if (folder / REPORT).is_file():  # written after the table
        return read_case_table(folder / CASES)
    checkpoint = _checkpoint(plan, ROWS[row].weights_of or row, fold, listener)
    sides = read_folds(plan.prepared / "folds.json")[fold]
    cases = [case for case in find_cases(plan.dataset) if case.name in set(sides.validation)]
    if not cases:
        raise InputError(f"{plan.dataset} has none of the cases that fold {fold} validates on.")
    sequences = tuple(m for m in MODALITIES if m.value in config.modalities)
    options = EvaluationOptions(PROTOCOLS, distances=False, sequences=sequences)
    evaluation = evaluate(cases, _predictor(ROWS[row], checkpoint, device), options)
    if evaluation.failed:
        bad = evaluation.failed[0]
        raise InputError(
            f"{len(evaluation.failed)} of {len(cases)} cases cannot be measured: {bad.case}: {bad.sentence}"
        )
    write_report(replace(evaluation, trained_on=frozenset(sides.train)), folder)
    return evaluation.results


def _refuse_other_settings(plan: Plan, row: str, fold: int) -> None:
    """Make sure that what is there already was trained as the plan asks.

    Raises:
        InputError: it was not; mixing both in one table would compare nothing.
    """
    out = plan.out / row / f"fold{fold}" / "run"
    if not ROWS[row].trains or not (out / STATE_FILE).is_file():
        return
    there, asked = (
        _flat(config.model_dump(mode="json")) for config in (resume_config(out), row_config(plan, row, fold))
    )
    other = next((key for key in asked if asked[key] != there.get(key)), None)
    if other is not None:
        raise InputError(
            f"{out} was trained with {other} = {there.get(other)}, and now {asked[other]} is asked for; choose another "
            "--out, or delete that folder to train it anew."
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _checkpoint(plan: Plan, row: str, fold: int, listener: Listener | None) -> Path:
    """Return the weights of a row, trained if need be: the last ones, since the best were chosen on the fold."""
    config = row_config(plan, row, fold)
    out = plan.out / row / f"fold{fold}" / "run"
    if not ROWS[row].trains:
        if plan.start is not None:
            return plan.start
        random = out / LAST
        out.mkdir(parents=True, exist_ok=True)
        save_checkpoint(build_model(config.model, None, config.run.seed), random, name="random weights", trained=False)
        return random
    if _finished(out):
        return out / LAST
    if (out / STATE_FILE).is_file():
        train(resume_config(out), out, resume=True, listener=listener)
    else:
        train(config, out, listener=listener)
    if not _finished(out):
        raise CancelledError(f"The training in {out} was stopped; run the same command again to go on.")
    return out / LAST


def _finished(out: Path) -> bool:
    if not (out / LAST).is_file() or not (out / LOG_FILE).is_file():
        return False
    last = read_log(out)[-1]
    return last["event"] == "end" and last["reason"] in ("finished", "no more progress")


def _predictor(row: Row, checkpoint: Path, device: str) -> Predictor:
    if row.mirrored:
        return MirroredPredictor(load_predictor(checkpoint, device), load_predictor(checkpoint, device))
    if not row.trains:
        return AveragedSequences(load_predictor(checkpoint, device))
    return load_predictor(checkpoint, device)
