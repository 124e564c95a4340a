"""Training samples: which slices an epoch has, and each of them as a function of the seed, epoch and position alone.

Because nothing is drawn from a state that workers or ranks share, a resumed run sees what the killed one would have
seen, and two processes see together what one would have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from sofa_engine.errors import InputError
from sofa_engine.types import MODALITIES, SUB_REGIONS
from sofa_training.augment import draw_spatial, drop_modalities, vary_intensity
from sofa_training.boxes import draw_boxes
from sofa_training.config import TrainingConfig
from sofa_training.embeddings import picture_key
from sofa_training.prepared import PreparedCase
from sofa_training.regions import sub_region_masks
from sofa_training.transplant import transplanted

# Streams of random numbers, so that cached pictures can keep theirs while prompts are drawn anew.
_PLAN, _PICTURE, _PROMPT = 0, 1, 2


class Draw(NamedTuple):
    """One slice of an epoch: index of the case, index of the slice in its crop."""

    case: int
    index: int


class Sample(NamedTuple):
    """One training slice; batches have the same fields with a leading B.

    Attributes:
        images: float32 (4, C, H, W) in [0, 1], C neighbouring slices (1 or 3).
        present: bool (4,), which sequences the model is given.
        truth: float32 (3, H, W), order of `SUB_REGIONS`: the share of each pixel that the mask covers.
        chosen: bool (3,), whose masks enter the loss.
        boxes: float32 (3, 4), drawn prompts.
        box_valid: bool (3,).
        box_heights: float32 (3,), where the slice lies in the 3D box that a rectangle was cut from.
        box_own: bool (3,), use the model's own box if it has one.
        key: int64 (2,), what names the picture in the cache of embeddings; zeros where there is none.
    """

    images: Tensor
    present: Tensor
    truth: Tensor
    chosen: Tensor
    boxes: Tensor
    box_valid: Tensor
    box_heights: Tensor
    box_own: Tensor
    key: Tensor


class SliceDataset(Dataset[Sample]):
    """Slices of prepared cases, indexed by (epoch, position)."""

    def __init__(self, cases: Sequence[PreparedCase], config: TrainingConfig) -> None:
        """Keep the cases; nothing is loaded yet.

        Raises:
            InputError: no case has truth.
        """
        self.cases = [case for case in cases if case.tumour_slices.size]
        self.config = config
        if not self.cases:
            raise InputError("None of the training cases has a tumour in its truth, so there is nothing to learn from.")
        # Plans of two epochs: workers run ahead of the epoch's end.
        self.plan = lru_cache(maxsize=2)(self._plan)

    def __len__(self) -> int:
        """Return the slices of one epoch, the same for every epoch."""
        return len(self.plan(0))

    def __getitem__(self, where: tuple[int, int]) -> Sample:
        """Return the sample at (epoch, position)."""
        epoch, position = where
        variants = self.config.run.cached_variants
        variant = epoch % variants if variants else epoch
        draw = self.plan(variant)[position]
        picture = np.random.default_rng([self.config.run.seed, _PICTURE, variant, position])
        prompt = np.random.default_rng([self.config.run.seed, _PROMPT, epoch, position])
        return self._sample(draw, picture, prompt, epoch, position)

    def __getstate__(self) -> dict[str, object]:
        """Leave the cached plans behind when a worker is spawned."""
        return {"cases": self.cases, "config": self.config}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.plan = lru_cache(maxsize=2)(self._plan)

    def _plan(self, epoch: int) -> tuple[Draw, ...]:
        data = self.config.data
        rng = np.random.default_rng([self.config.run.seed, _PLAN, epoch])
        draws: list[Draw] = []
        for number, case in enumerate(self.cases):
            if data.slices_per_case == 0:
                indices = list(case.tumour_slices)
                empty = round(len(indices) * data.background / max(1e-6, 1 - data.background))
                indices += [self._background(case, rng) for _ in range(empty)]
            else:
                indices = [self._slice(case, rng) for _ in range(data.slices_per_case)]
            draws += [Draw(number, int(index)) for index in indices]
        return tuple(draws[i] for i in rng.permutation(len(draws)))

    def _slice(self, case: PreparedCase, rng: np.random.Generator) -> int:
        if rng.random() < self.config.data.background:
            return self._background(case, rng)
        candidates = case.tumour_slices
        if self.config.data.balanced:
            region = rng.choice(np.flatnonzero(case.pixels.any(axis=1)))
            candidates = np.flatnonzero(case.pixels[region])
        return int(rng.choice(candidates))

    @staticmethod
    def _background(case: PreparedCase, rng: np.random.Generator) -> int:
        return int(rng.choice(case.brain_slices if case.brain_slices.size else case.tumour_slices))

    def _sample(
        self, draw: Draw, picture: np.random.Generator, prompt: np.random.Generator, epoch: int, position: int
    ) -> Sample:
        config, case = self.config, self.cases[draw.case]
        # A batch has one size; batches take the sizes in turn.
        crop = config.data.crops[position // config.run.batch % len(config.data.crops)]
        images, labels = neighbourhood(case, draw.index, config.model.encoder.context)
        if picture.random() < config.augmentation.reverse:
            images = images[:, ::-1]
        if picture.random() < config.data.transplant:
            donor = self.cases[int(picture.integers(len(self.cases)))]
            images, labels = transplanted(images, labels, case, draw.index, donor, picture, roam=config.data.roam)
        change = draw_spatial(config.augmentation, self._centre(images, labels, crop, picture), crop, picture)
        flat = torch.from_numpy(np.ascontiguousarray(images).reshape(-1, *images.shape[2:]).astype(np.float32) / 255)
        pixels = change.sample(flat).view(*images.shape[:2], *crop)
        pixels = vary_intensity(pixels, config.augmentation, picture)
        if config.model.normalisation == "slice":
            pixels = stretch_slices(pixels)
        truth = change.sample(torch.from_numpy(sub_region_masks(labels).astype(np.float32)))
        given = case.present & np.array([m.value in config.modalities for m in MODALITIES])
        if not given.any():
            raise InputError(f"{case.name} has none of the sequences that this run trains on.")
        drawn = draw_boxes(truth.numpy() > 0.5, case, draw.index, change, config.prompts, epoch, prompt)
        chosen = np.ones(len(SUB_REGIONS), dtype=bool)
        if config.loss.sub_regions == "one":
            chosen = np.arange(len(SUB_REGIONS)) == prompt.integers(len(SUB_REGIONS))
        return Sample(
            images=pixels,
            present=torch.from_numpy(drop_modalities(given, config.augmentation.modality_dropout, prompt)),
            truth=truth,
            chosen=torch.from_numpy(chosen),
            boxes=torch.from_numpy(drawn.boxes),
            box_valid=torch.from_numpy(drawn.valid),
            box_heights=torch.from_numpy(drawn.heights),
            box_own=torch.from_numpy(drawn.own),
            key=picture_key(pixels) if config.run.cached_variants else torch.zeros(2, dtype=torch.int64),
        )

    def _centre(
        self, images: np.ndarray, labels: np.ndarray, crop: tuple[int, int], rng: np.random.Generator
    ) -> tuple[float, float]:
        """Return where the crop is centred: near a tumour pixel, or anywhere in the brain."""
        pixels = np.argwhere(labels > 0)
        if pixels.size == 0 or rng.random() < self.config.data.off_tumour:
            pixels = np.argwhere(images.any(axis=(0, 1)))
        if pixels.size == 0:
            return (labels.shape[0] - 1) / 2, (labels.shape[1] - 1) / 2
        return tuple(
            _within(float(p) + rng.uniform(-n / 6, n / 6), n, length)
            for p, n, length in zip(pixels[rng.integers(len(pixels))], crop, labels.shape, strict=True)
        )  # type: ignore[return-value]


def _within(position: float, crop: int, length: int) -> float:
    """Keep a crop inside the slice where it fits, else centre it."""
    if crop >= length:
        return (length - 1) / 2
    return float(np.clip(position, (crop - 1) / 2, length - 1 - (crop - 1) / 2))


def neighbourhood(case: PreparedCase, index: int, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a slice with its neighbours, uint8 (4, C, H, W) (repeated at the ends), and its labels (H, W)."""
    reach = context // 2
    indices = np.clip(np.arange(index - reach, index + reach + 1), 0, case.truth.shape[0] - 1)
    return np.asarray(case.images[:, indices]), np.asarray(case.truth[index])


def stretch_slices(images: Tensor) -> Tensor:
    """Stretch each slice (..., H, W) to [0, 1] by its own extremes, as LiteMedSAM's scripts do."""
    low, high = images.amin(dim=(-2, -1), keepdim=True), images.amax(dim=(-2, -1), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-8)


class RunSampler(Sampler[list[tuple[int, int]]]):
    """The batches of one process, from (epoch, iteration) to the end of the run.

    Process `rank` of `world` takes every world-th sample of each global batch; an incomplete last batch is dropped.
    """

    def __init__(
        self, slices: int, batch: int, epochs: int, *, rank: int = 0, world: int = 1, start: tuple[int, int] = (0, 0)
    ) -> None:
        """Cut epochs of `slices` into global batches.

        Raises:
            InputError: the batch is larger than an epoch or does not divide among the processes.
        """
        if batch > slices:
            raise InputError(f"A batch of {batch} slices is more than the {slices} of an epoch; lower run.batch.")
        if batch % world:
            raise InputError(f"run.batch ({batch}) must be a multiple of the {world} processes.")
        self.per_epoch = slices // batch
        self._batch, self._epochs, self._rank, self._world, self._start = batch, epochs, rank, world, start

    def __len__(self) -> int:
        """Return the batches that are left."""
        epoch, iteration = self._start
        return (self._epochs - epoch) * self.per_epoch - iteration

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield lists of (epoch, position)."""
        first = self._start[1]
        for epoch in range(self._start[0], self._epochs):
            for iteration in range(first, self.per_epoch):
                begin = iteration * self._batch
                yield [(epoch, p) for p in range(begin + self._rank, begin + self._batch, self._world)]
            first = 0
