"""The training loop. Read it from top to bottom: `train` sets up, `_Run.go` loops, the rest are its steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from sofa_engine.errors import SofaError
from sofa_engine.model.checkpoint import save_checkpoint
from sofa_engine.model.network import SofaModel
from sofa_training.boxes import usual_shares
from sofa_training.config import TrainingConfig, load_config
from sofa_training.dataset import RunSampler, Sample, SliceDataset
from sofa_training.distributed import Process, join_processes
from sofa_training.embeddings import EmbeddingCache
from sofa_training.failures import TrainingFailedError, lost_number, memory_said
from sofa_training.optimiser import build_average, build_optimiser, learning_rate, set_rate
from sofa_training.overlap import seen_in_validation
from sofa_training.prepared import PreparedCase, read_sides
from sofa_training.run_folder import BEST, CONFIG, FOLDS, LAST, prepare_folder
from sofa_training.runlog import RunLog
from sofa_training.seen import SEEN, digest, digests_in
from sofa_training.start import Start, build_model, keep_localiser
from sofa_training.state import RunState, load_state, save_state
from sofa_training.step import StepResult, TrainingStep
from sofa_training.stopping import StopRequest
from sofa_training.validation import CaseDice, mean_dice, predictor_of, validate

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: How fast the running Dice of the difficulty weights follows.
_DICE_MEMORY = 0.99

Listener = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        reason: "finished", "no more progress" or "stopped".
        epochs: completed.
        best: best validation score, None without validation.
        checkpoint: the weights to use.
    """

    reason: str
    epochs: int
    best: float | None
    checkpoint: Path


def train(config: TrainingConfig, out: Path, *, resume: bool = False, listener: Listener | None = None) -> Outcome:
    """Train a model, alone or as one of torchrun's processes.

    Args:
        config: everything about the run.
        out: folder of the run: config.toml, log.jsonl, tensorboard/, last.pt, best.safetensors, last.safetensors.
        resume: go on from `last.pt`; the configuration must be what `resume_config` returns.
        listener: told every event that is logged (name, values), in the leading process.

    Raises:
        InputError: the data, folds or configuration cannot be used, said before training starts.
        WeightsError: the start checkpoint cannot be used.
        OutputError: a file cannot be written; the last good checkpoint is kept.
        TrainingFailedError: the loss is no longer a number, or the graphics card is too small; the last good
            checkpoint is kept.
    """
    with join_processes(config.run.device) as process:
        # A resumed run's split stays what it was, whatever became of the file that it was read from.
        kept = {"folds": out / FOLDS} if resume and (out / FOLDS).is_file() else {}
        training, validating = read_sides(config.data.model_copy(update=kept), config.run.validate_cases)
        start = None if resume else Start.of(config.start)
        if resume:
            model = SofaModel(config.model)  # its weights come with the run's state
        else:
            config = keep_localiser(config, start)
            model = build_model(config.model, start, config.run.seed)
            if model.box_prior is not None and not model.box_prior.share.any():
                model.box_prior.share.copy_(torch.from_numpy(usual_shares(training)))
        if not resume:
            prepare_folder(config, out, process, resume=False)
        with memory_said(config, process.world):
            run = _Run(config, out, process, model, training, validating, listener)
        if resume:
            run.restore()
            # Only now: settings that cannot be used, or a damaged checkpoint, leave the run's configuration as it was.
            prepare_folder(config, out, process, resume=True)
        else:
            before = set() if start is None else digests_in(start.info.notes)
            run.state.seen = sorted(before.union(digest(case.name) for case in training))
        with StopRequest(out) as stop:
            return run.go(stop)


class _Run:
    """One training: everything that lives as long as it does."""

    def __init__(
        self,
        config: TrainingConfig,
        out: Path,
        process: Process,
        model: SofaModel,
        training: tuple[PreparedCase, ...],
        validating: tuple[PreparedCase, ...],
        listener: Listener | None,
    ) -> None:
        self.config, self.out, self.process, self.validating = config, out, process, validating
        self.listener = listener
        if config.run.deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
        self.dataset = SliceDataset(training, config)
        self.model = model.to(process.device).channels_last()
        self.cache = EmbeddingCache(out / "embeddings") if config.run.cached_variants else None
        self.step = TrainingStep(self.model, config, self.cache).train()
        self.optimiser = build_optimiser(self.model, config.optimiser)
        self.average = build_average(self.model, config.optimiser.average)
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=config.run.precision == "fp16")
        self.state, self.resumed = RunState(), False
        self.per_epoch = len(RunSampler(len(self.dataset), config.run.batch, 1, world=process.world))
        self.total_steps = config.run.epochs * math.ceil(self.per_epoch / config.run.accumulate)
        self.log: RunLog | None = None

    def restore(self) -> None:
        """Continue where `last.pt` was written."""
        self.state, parts = load_state(self.out)
        self.resumed = True
        self.state.batch = self.state.batch or load_config(self.out / CONFIG).run.batch
        self.model.load_state_dict(parts["model"])
        self.optimiser.load_state_dict(parts["optimiser"])
        if parts["scaler"]:  # empty where the run computed in another precision until now
            self.scaler.load_state_dict(parts["scaler"])
        if self.average is not None:
            self.average.load_state_dict(parts["average"])

    def go(self, stop: StopRequest) -> Outcome:
        """Run to the end, to a stop, or to a failure."""
        state = self.state
        resume_at = (state.epoch, state.iteration) if self.resumed else None
        self.log = RunLog(self.out, resume_at=resume_at, due=state.due) if self.process.leads else None
        self._recount()
        try:
            with memory_said(self.config, self.process.world):
                return self._finish(self._loop(stop))
        except SofaError as error:
            # Whoever offers to resume the run needs to know whether it must be changed first.
            remedy = {"remedy": error.remedy} if isinstance(error, TrainingFailedError) else {}
            self._tell("end", reason=str(error), step=state.step, epoch=state.epoch, failed=True, **remedy)
            raise
        finally:
            if self.log is not None:
                self.log.close()

    def _recount(self) -> None:
        """Count the iterations of a resumed run in batches of its new size."""
        state, batch = self.state, self.config.run.batch
        state.iteration = state.iteration * (state.batch or batch) // batch
        state.batch = batch
        if state.iteration >= self.per_epoch:  # less than a larger batch was left of the epoch
            self._end_epoch()

    def _end_epoch(self) -> None:
        state, run = self.state, self.config.run
        state.epoch, state.iteration = state.epoch + 1, 0
        state.due = bool(self.validating) and (state.epoch % run.validate_every == 0 or state.epoch == run.epochs)

    def _loop(self, stop: StopRequest) -> str:
        """Train until there is a reason to end, and return it."""
        state, run = self.state, self.config.run
        place = (state.epoch, state.iteration)
        count = len(self.dataset) * min(run.cached_variants, run.epochs)
        features = self.cache.size_of(self.model, self.config.data.crops, count) if self.cache is not None else 0
        length = {"epochs": run.epochs, "iterations_per_epoch": self.per_epoch, "features_gb": features / 1e9}
        self._tell("start", step=state.step, **length, **self._facts())
        if self.cache is not None and self.process.leads:
            if not state.step:
                self.cache.remove()  # of a run that came to nothing, perhaps with another encoder
            self.cache.require_room(features)
        if not state.step:
            self._save()  # a failure in the first iterations can be resumed with other settings
        module = self._distributed()
        batches = iter(self._loader(place))
        began, unsaved = time.monotonic() - state.seconds, 0
        while state.due or state.epoch < run.epochs:
            if state.due:
                # What was trained is saved already: whoever ends the run now loses no more than this validation.
                if not self._validate(stop):
                    return "stopped"
                state.due, state.seconds = False, time.monotonic() - began
                self._save()
                if run.patience and state.misses >= run.patience:
                    return "no more progress"
                continue
            # Gradients that wait for their step are in no checkpoint, so a run is saved and stopped between steps.
            last = state.iteration == self.per_epoch - 1
            updates = last or (state.iteration + 1) % run.accumulate == 0
            stopping = self._iterate(module, batches, began, stop, updates=updates) and updates
            state.iteration += 1
            unsaved += 1
            if last:
                self._end_epoch()
            state.seconds = time.monotonic() - began
            if last or stopping or (updates and run.checkpoint_steps and unsaved >= run.checkpoint_steps):
                self._save()
                unsaved = 0
            if stopping:
                return "stopped"
        return "finished"

    def _iterate(self, module: nn.Module, batches: Any, began: float, stop: StopRequest, *, updates: bool) -> bool:
        """Do one iteration; return whether the run was asked to stop."""
        config, state, process = self.config, self.state, self.process
        start = time.monotonic()
        batch = Sample(*(tensor.to(process.device, non_blocking=True) for tensor in next(batches)))
        loaded = time.monotonic()
        number = state.epoch * self.per_epoch + state.iteration
        # Whatever torch draws in this iteration is a function of its place in the run.
        torch.manual_seed(config.run.seed * 1_000_003 + number * process.world + process.rank)
        rate = learning_rate(state.step, self.total_steps, config.optimiser)
        set_rate(self.optimiser, rate)
        quiet = nullcontext() if updates or not isinstance(module, DistributedDataParallel) else module.no_sync()
        with quiet:
            with self._autocast():
                result: StepResult = module(batch, self._weights())
            self.scaler.scale(result.loss / config.run.accumulate).backward()
        means = process.mean(torch.stack([result.loss.detach(), result.first, result.second]).float())
        loss, first, second = means.tolist()
        if not np.isfinite(loss):
            place = f"in epoch {state.epoch + 1}, iteration {state.iteration + 1}"
            raise lost_number(f"The loss became {loss} {place}", config)
        if updates:
            self._update()
        dice = process.total(torch.stack([result.dice, result.count]).float())
        self._remember(dice)
        asked = process.total(torch.tensor([float(stop.requested)], device=process.device))
        seconds = time.monotonic() - start
        done = number + 1
        share = (time.monotonic() - began) / done
        self._tell(
            "step",
            step=state.step,
            epoch=state.epoch,
            iteration=state.iteration,
            loss=loss,
            first=first,
            second=second,
            rate=rate,
            dice=self._dice_of(dice),
            seconds=seconds,
            loading=(loaded - start) / seconds,
            slices_per_second=config.run.batch / seconds,
            remaining_s=share * (config.run.epochs * self.per_epoch - done),
        )
        return bool(asked.item() > 0)

    def _update(self) -> None:
        """Move the weights, unless the gradient is not finite."""
        config = self.config.optimiser
        self.scaler.unscale_(self.optimiser)
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, config.clip or float("inf"))
        # With loss scaling an overflow is expected now and then, and the scaler skips it.
        if not self.scaler.is_enabled() and not torch.isfinite(norm):
            raise lost_number(f"The gradient became {norm.item()} in epoch {self.state.epoch + 1}", self.config)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        self.state.step += 1
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _validate(self, stop: StopRequest) -> bool:
        """Measure the validation cases, shared among the processes, and keep the best weights.

        Returns whether that was done; a run that is asked to stop measures them when it goes on.
        """
        state, process = self.state, self.process
        predictor = predictor_of(self._weights_to_keep(), process.device, self.config.run.precision)
        mine = self.validating[process.rank :: process.world]
        rows, preview = validate(predictor, mine, self.config.modalities, lambda: stop.requested)
        gathered: list[CaseDice] = [row for part in process.gathered(rows) for row in part]
        if len(gathered) < len(self.validating):
            return False
        dice = mean_dice(gathered)
        score = float(np.mean(list(dice.values())))
        if state.best is None or score > state.best:
            state.best, state.best_epoch, state.misses = score, state.epoch, 0
            self._keep(BEST, {"validation_dice": dice})
        else:
            state.misses += 1
        if preview is not None and process.leads:
            preview.write(self.out)
        self._tell("validation", step=state.step, epoch=state.epoch, score=score, best=state.best, dice=dice)
        return True

    def _finish(self, reason: str) -> Outcome:
        state = self.state
        self._keep(LAST, {})
        if self.cache is not None and self.process.leads and reason != "stopped":
            self.cache.remove()
        checkpoint = self.out / (BEST if state.best is not None else LAST)
        self._tell(
            "end", reason=reason, step=state.step, epoch=state.epoch, best=state.best, checkpoint=checkpoint.name
        )
        return Outcome(reason, state.epoch, state.best, checkpoint)

    def _save(self) -> None:
        if self.process.leads:
            parts = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
            parts["scaler"] = self.scaler.state_dict()
            if self.average is not None:
                parts["average"] = self.average.state_dict()
            save_state(self.out, self.state, parts)

    def _keep(self, name: str, notes: dict[str, object]) -> None:
        """Write the weights for inference."""
        if self.process.leads:
            facts: dict[str, object] = {"epochs": self.state.epoch, "steps": self.state.step, **self._facts(), **notes}
            save_checkpoint(self._weights_to_keep(), self.out / name, name=self.out.name, notes=facts)

    def _facts(self) -> dict[str, Any]:
        return {
            "training_cases": len(self.dataset.cases),
            SEEN: self.state.seen,
            "validation_cases": len(self.validating),
            **seen_in_validation(self.state.seen, self.validating),
            "device": str(self.process.device),
            "processes": self.process.world,
            "arrangement": self.config.model.arrangement,
        }

    def _weights_to_keep(self) -> SofaModel:
        return self.average.module if self.average is not None else self.model  # type: ignore[return-value]

    def _weights(self) -> torch.Tensor:
        """Return the weight of each sub-region, mean 1: the harder it still is, the more it counts."""
        exponent = self.config.loss.difficulty
        weights = (1 - torch.tensor(self.state.dice)).clamp(min=0.05) ** exponent
        return (weights / weights.mean()).to(self.process.device)

    def _remember(self, dice: torch.Tensor) -> None:
        for region, (total, count) in enumerate(dice.T.tolist()):
            if count:
                self.state.dice[region] = _DICE_MEMORY * self.state.dice[region] + (1 - _DICE_MEMORY) * total / count

    @staticmethod
    def _dice_of(dice: torch.Tensor) -> dict[str, float]:
        names = ("NCR", "ED", "ET")
        return {name: total / count for name, (total, count) in zip(names, dice.T.tolist(), strict=True) if count}

    def _loader(self, place: tuple[int, int]) -> DataLoader[Sample]:
        run, process = self.config.run, self.process
        sampler = RunSampler(
            len(self.dataset), run.batch, run.epochs, rank=process.rank, world=process.world, start=place
        )
        return DataLoader(
            self.dataset,
            batch_sampler=sampler,
            num_workers=run.workers,
            pin_memory=process.device.type == "cuda",
            prefetch_factor=4 if run.workers else None,
        )

    def _distributed(self) -> nn.Module:
        module: nn.Module = self.step
        if self.config.run.compile:
            module = torch.compile(module)  # type: ignore[assignment]
        if self.process.world == 1:
            return module
        ids = [self.process.device.index] if self.process.device.type == "cuda" else None
        # A batch without any prompt leaves the prompt encoder out.
        return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=True)

    def _autocast(self) -> torch.autocast:
        dtype = _DTYPES[self.config.run.precision]
        return torch.autocast(self.process.device.type, dtype, enabled=dtype is not torch.float32)

    def _tell(self, event: str, **values: Any) -> None:
        if self.log is not None:
            self.log.write(event, **values)
        if self.listener is not None and self.process.leads:
            self.listener(event, values)
