"""Training of the localiser, and what it finds alone. The loop reads from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sofa_engine.errors import SofaError
from sofa_engine.model.config import LocaliserConfig
from sofa_engine.model.localiser import Localiser, sub_regions
from sofa_engine.types import SUB_REGIONS
from sofa_training.config import (
    AugmentationConfig,
    DataConfig,
    OptimiserConfig,
    Section,
    read_toml,
    validate_config,
)
from sofa_training.distributed import Process
from sofa_training.localiser_file import write_localiser
from sofa_training.metrics import overlap
from sofa_training.optimiser import build_average, build_optimiser, learning_rate, set_rate
from sofa_training.prepared import PreparedCase, read_sides
from sofa_training.regions import REGIONS, region_mask
from sofa_training.run_folder import FOLDS, LOCALISER, kept_config, prepare_folder
from sofa_training.runlog import RunLog
from sofa_training.seen import SEEN, digest
from sofa_training.state import RunState, load_state, save_state
from sofa_training.stopping import StopRequest
from sofa_training.volumes import CoarseCase, VolumeSampler

Listener = Callable[[str, dict[str, Any]], None]
#: Rows: which of NCR, ED, ET make up each region whose overlap is trained: `REGIONS`.
_PARTS = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 0, 1]], dtype=torch.float32)
#: Cells added to both sides of a Dice ratio, and cells of truth from which a region's overlap counts.
_SMOOTH, _ENOUGH = 20.0, 4.0
#: Weights of the cross-entropy of the three questions (tumour? core? enhancing?) beside the overlap's 1.
_ASKED = (2.0, 0.25, 0.25)
#: A question that is asked of fewer cells than this weighs less.
_FEW = 50.0
#: Weight of the coarser answer's loss, which brings gradients to the deep layers.
_SIDE = 0.3
#: What a resumed run may change.
_MAY_CHANGE = ("optimiser.rate", "run.steps")


class LocaliserData(Section):
    """Which cases are learned from; `prepared`, `folds` and `fold` are those of `DataConfig`."""

    prepared: Path = Path("prepared")
    folds: Path | None = None
    fold: int | None = Field(None, ge=0)


class LocaliserRun(Section):
    """How a localiser is trained.

    Attributes:
        steps: iterations.
        batch: crops per iteration.
        crop: cells (D, H, W) of a crop, multiples of 8.
        off_tumour: share of crops centred anywhere in the brain instead of on a sub-region.
        untouched: share of crops without rotation, scale and deformation.
        transplant: probability that another patient's tumour is added.
        save_steps: iterations between checkpoints.
        seed: of everything that is drawn.
    """

    steps: int = Field(1500, ge=1)
    batch: int = Field(2, ge=1)
    crop: tuple[int, int, int] = (48, 64, 48)
    off_tumour: float = Field(0.25, ge=0, le=1)
    untouched: float = Field(0.25, ge=0, le=1)
    transplant: float = Field(0.0, ge=0, le=1)
    save_steps: int = Field(50, ge=1)
    seed: int = 0


class LocaliserTraining(Section):
    """One training of a localiser: the cases, the network, how samples vary, how weights move, how long."""

    data: LocaliserData = LocaliserData()
    model: LocaliserConfig = LocaliserConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    run: LocaliserRun = LocaliserRun()


def train_localiser(
    config: LocaliserTraining,
    cases: Sequence[PreparedCase],
    out: Path,
    *,
    resume: bool = False,
    listener: Listener | None = None,
) -> Localiser | None:
    """Train on prepared cases; return the averaged weights, or None if the run was asked to stop before its end.

    Args:
        config: everything about the run.
        cases: to learn from.
        out: folder of the run: config.toml, folds.json, log.jsonl, last.pt.
        resume: go on from `last.pt`; the configuration must be what `resume_localiser_config` returns.
        listener: told "step" events.

    Raises:
        InputError: a run is in `out` already and `resume` was not asked for, or none is and it was.
        SofaError: the loss is no longer a number; the last checkpoint is kept.
        OutputError: a checkpoint cannot be written.
    """
    run = config.run
    torch.manual_seed(run.seed)
    model = Localiser(config.model).to(memory_format=torch.channels_last_3d)
    optimiser = build_optimiser(model, config.optimiser)
    average = build_average(model, config.optimiser.average)
    state = RunState()
    if resume:
        state, parts = load_state(out)
        model.load_state_dict(parts["model"])
        optimiser.load_state_dict(parts["optimiser"])
        if average is not None:
            average.load_state_dict(parts["average"])
    prepare_folder(config, out, Process(0, 1, torch.device("cpu")), resume=resume)
    state.seen = sorted({*state.seen, *(digest(case.name) for case in cases)})
    sampler = VolumeSampler(
        [CoarseCase.of(case, config.model.spacing_mm) for case in cases],
        run.crop,
        config.augmentation,
        off_tumour=run.off_tumour,
        untouched=run.untouched,
        transplant=run.transplant,
        seed=run.seed,
    )
    log = RunLog(out, resume_at=(0, state.step) if resume else None)
    began = time.monotonic() - state.seconds
    try:
        with StopRequest(out) as stop:
            while state.step < run.steps and not stop.requested:
                images, shares = sampler.batch(state.step, run.batch)
                images = images.to(memory_format=torch.channels_last_3d)
                fine, side = model(images)
                loss = segmentation_loss(fine, shares) + _SIDE * segmentation_loss(side, F.avg_pool3d(shares, 2))
                set_rate(optimiser, learning_rate(state.step, run.steps, config.optimiser))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), config.optimiser.clip or float("inf"))
                if not torch.isfinite(loss):
                    raise SofaError(
                        f"The loss became {loss.item()} in step {state.step + 1}; the run stopped and its last good "
                        "checkpoint is kept. Lower optimiser.rate and resume."
                    )
                optimiser.step()
                if average is not None:
                    average.update_parameters(model)
                state.step += 1
                state.iteration, state.seconds = state.step, time.monotonic() - began
                values = {
                    "step": state.step,
                    "epoch": 0,
                    "iteration": state.step - 1,
                    "loss": loss.item(),
                    "remaining_s": state.seconds / state.step * (run.steps - state.step),
                }
                log.write("step", **values)
                if listener is not None:
                    listener("step", values)
                if state.step % run.save_steps == 0 or state.step == run.steps or stop.requested:
                    parts = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
                    if average is not None:
                        parts["average"] = average.state_dict()
                    save_state(out, state, parts)
    finally:
        log.close()
    if state.step < run.steps:
        return None
    return (average.module if average is not None else model).eval()  # type: ignore[return-value]


def segmentation_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """Return the cross-entropy of the questions + mean (1 - soft Dice of the batch) over the regions that it has.

    Args:
        logits: (B, 3, D, H, W), answers of the localiser; each is only judged where the one before should be yes.
        shares: (B, 3, D, H, W), each cell's shares of the sub-regions.
    """
    logits = logits.float()
    necrotic, oedema, enhancing = shares.unbind(dim=1)
    core = necrotic + enhancing
    tumour = (core + oedema).clamp(max=1)
    asked = ((torch.ones_like(tumour), tumour), (tumour, core), (core, enhancing))
    loss = logits.new_zeros(())
    for answer, weight, (of, yes) in zip(logits.unbind(dim=1), _ASKED, asked, strict=True):
        right = (yes / of.clamp(min=1e-4)).clamp(0, 1)
        wrong = F.binary_cross_entropy_with_logits(answer, right, weight=of, reduction="sum")
        loss = loss + weight * wrong / of.sum().clamp(min=_FEW)
    parts = _PARTS.to(logits.device)
    found = torch.einsum("rc,bcn->rbn", parts, sub_regions(logits).flatten(2)).flatten(1)
    there = torch.einsum("rc,bcn->rbn", parts, shares.flatten(2)).flatten(1)
    common, total = (found * there).sum(-1), found.sum(-1) + there.sum(-1)
    ratio = 1 - (2 * common + _SMOOTH) / (total + _SMOOTH)
    present = (there.sum(-1) > _ENOUGH).float()
    return loss + (ratio * present).sum() / present.sum().clamp(min=1)


def load_localiser_config(source: str | Path, overrides: dict[str, Any] | None = None) -> LocaliserTraining:
    """Read a configuration as `load_config` does.

    Raises:
        InputError: the file is missing or no TOML, or a key or value is wrong; the sentence names it.
    """
    return validate_config(LocaliserTraining, read_toml(source, "localiser"), overrides or {}, str(source))


def resume_localiser_config(out: Path, changes: dict[str, Any]) -> LocaliserTraining:
    """Return the configuration that a run was started with, with changes by dotted key.

    Raises:
        InputError: as `kept_config`.
    """
    return kept_config(LocaliserTraining, out, changes, _MAY_CHANGE)


def sides(data: LocaliserData, out: Path, *, resume: bool) -> tuple[tuple[PreparedCase, ...], tuple[PreparedCase, ...]]:
    """Return the cases to learn from and those that are left out, none without a fold.

    Args:
        data: where they are, and the fold.
        out: folder of the run.
        resume: whether the run goes on: its split stays what it was, whatever became of the file of the folds.

    Raises:
        InputError: the folder or the folds cannot be used.
    """
    folds = out / FOLDS if resume and (out / FOLDS).is_file() else data.folds
    return read_sides(DataConfig(prepared=data.prepared, folds=folds, fold=data.fold))


def finish_run(
    localiser: Localiser, out: Path, waiting: Sequence[PreparedCase]
) -> tuple[Path, dict[str, dict[str, float]]]:
    """Write OUT/localiser.safetensors, with digests of what the run has seen, and measure the cases left out.

    Returns:
        The file, and per case the Dice of each region as `coarse_dice` has it.
    """
    rows = {case.name: coarse_dice(locate_prepared(localiser, case), np.asarray(case.truth)) for case in waiting}
    path = out / LOCALISER
    write_localiser(localiser, path, {"dice": list(rows.values()), SEEN: load_state(out)[0].seen})
    return path, rows


def locate_prepared(localiser: Localiser, case: PreparedCase) -> np.ndarray:
    """Return the localiser's logits for a prepared case, float16 (3, D', H', W') on its cells."""
    images = torch.from_numpy(np.array(case.images)).float() / 255
    return localiser.locate(images, case.spacing).half().numpy()


def coarse_labels(logits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the label map, uint8 of `shape`, that a localiser's logits alone would give."""
    full = F.interpolate(torch.from_numpy(logits)[None].float(), size=shape, mode="trilinear")[0].sigmoid()
    labels = torch.tensor([region.label for region in SUB_REGIONS], dtype=torch.uint8)[full.argmax(dim=0)]
    return torch.where(full.sum(dim=0) > 0.5, labels, 0).numpy().astype(np.uint8)


def coarse_dice(logits: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return Dice of the localiser's own label map per region of `REGIONS`; 1 where truth and answer are empty."""
    labels = coarse_labels(logits, truth.shape)
    return {region: overlap(region_mask(labels, region), region_mask(truth, region))[0] for region in REGIONS}
