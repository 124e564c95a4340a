"""Training samples of the localiser: crops of whole volumes at its own coarse spacing, a function of seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sofa_engine.errors import InputError
from sofa_engine.model.localiser import to_cells, with_other_side
from sofa_engine.types import MODALITIES, SUB_REGIONS
from sofa_training.augment import drop_modalities, vary_intensity
from sofa_training.config import AugmentationConfig
from sofa_training.prepared import PreparedCase
from sofa_training.regions import sub_region_masks
from sofa_training.transplant import moved

#: Cells by which a transplanted tumour may move along each axis.
_ROAM = 4
#: Share of a cell from which it is taken for tumour that is transplanted.
_TUMOUR = 0.3


@dataclass(frozen=True)
class CoarseCase:
    """A prepared case on the localiser's cells, in memory.

    Attributes:
        name: of the case.
        cells: float16 (7, D, H, W): the four sequences in 0..1, then each cell's shares of the sub-regions.
        present: bool (4,), which sequences there are.
        start: cell of the case's full grid, or of the atlas that it lies in, at which the crop begins (z, y, x).
        brain: int (n, 3), cells of the brain.
    """

    name: str
    cells: Tensor
    present: np.ndarray
    start: tuple[int, int, int]
    brain: np.ndarray

    @staticmethod
    def of(case: PreparedCase, cell_mm: float) -> CoarseCase:
        """Average a prepared case over cells of `cell_mm`."""
        images = to_cells(torch.from_numpy(np.array(case.images)), case.spacing, cell_mm) / 255
        shares = to_cells(torch.from_numpy(sub_region_masks(np.asarray(case.truth))), case.spacing, cell_mm)
        z, y, x = (round(n * s / cell_mm) for n, s in zip(case.extent.lower, case.spacing, strict=True))
        cells = torch.cat([images, shares]).half()
        return CoarseCase(case.name, cells, case.present, (z, y, x), images.amax(dim=0).nonzero().numpy())


class VolumeSampler:
    """Draws batches of crops; what it draws at a step depends on the seed and the step alone."""

    def __init__(
        self,
        cases: Sequence[CoarseCase],
        crop: tuple[int, int, int],
        config: AugmentationConfig,
        *,
        off_tumour: float,
        untouched: float,
        transplant: float,
        seed: int,
    ) -> None:
        """Keep the cases.

        Args:
            cases: to draw from.
            crop: cells (D, H, W) of a sample.
            config: how samples vary.
            off_tumour: share of crops that are centred anywhere in the brain.
            untouched: share of crops whose cells are only moved and mirrored, so that what is seen is as sharp as at
                inference.
            transplant: probability that another patient's tumour is added.
            seed: of everything that is drawn.

        Raises:
            InputError: there are no cases.
        """
        if not cases:
            raise InputError("There are no training cases; check data.prepared and data.fold.")
        self._cases, self._crop, self._config = tuple(cases), crop, config
        self._off_tumour, self._untouched, self._transplant, self._seed = off_tumour, untouched, transplant, seed

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Return images (size, 8, D, H, W), own and other side, and shares of the sub-regions (size, 3, D, H, W)."""
        images, shares = [], []
        for place in range(size):
            rng = np.random.default_rng([self._seed, step, place])
            # Every case comes once before any comes again.
            number = step * size + place
            turn, position = divmod(number, len(self._cases))
            order = np.random.default_rng([self._seed, turn]).permutation(len(self._cases))
            image, share = self._sample(self._cases[order[position]], rng)
            images.append(image)
            shares.append(share)
        return torch.stack(images), torch.stack(shares)

    def _sample(self, case: CoarseCase, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        cells = case.cells.float()
        if rng.random() < self._transplant:
            cells = transplanted_cells(cells, case, self._cases[int(rng.integers(len(self._cases)))], rng)
        images, shares = cells[: len(MODALITIES)], cells[len(MODALITIES) :]
        theta = self._placement(shares, case.brain, rng)
        grid = F.affine_grid(torch.from_numpy(theta)[None], [1, 1, *self._crop], align_corners=False)
        if self._config.elastic > 0 and rng.random() < self._config.elastic_probability:
            grid = grid + self._elastic(cells.shape[1:], rng)
        drawn = F.grid_sample(torch.cat([with_other_side(images), shares])[None], grid, align_corners=False)[0]
        own, other, share = drawn.split([len(MODALITIES), len(MODALITIES), len(SUB_REGIONS)])
        kept = torch.from_numpy(drop_modalities(case.present, self._config.modality_dropout, rng))
        # Both sides of a sequence vary alike.
        sides = vary_intensity(torch.cat([own, other], dim=1), self._config, rng)
        return torch.cat((sides * kept[:, None, None, None]).chunk(2, dim=1)), share

    def _placement(self, shares: Tensor, brain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the affine map (3, 4) from the crop's to the case's normalised coordinates (x, y, z)."""
        config = self._config
        centres = brain
        present = [cells for share in shares if len(cells := (share > 0.5).nonzero().numpy())]
        if present and rng.random() >= self._off_tumour:
            centres = present[int(rng.integers(len(present)))]
        size, crop = np.array(shares.shape[1:], float), np.array(self._crop, float)
        centre = centres[int(rng.integers(len(centres)))] + 0.5 + rng.uniform(-crop / 5, crop / 5)
        linear = np.diag([1.0, 1.0, -1.0 if rng.random() < config.mirror else 1.0])
        if rng.random() < self._untouched:
            centre = np.floor(centre) + (crop % 2) / 2
        else:
            angles = np.deg2rad(rng.uniform(-config.rotation, config.rotation, 3))
            scale = rng.uniform(*config.scale) * rng.uniform(0.95, 1.05, 3)
            linear = _rotation(angles) @ linear @ np.diag(1 / scale)
        # In cells: source = centre + linear @ (offset from the crop's middle); grid_sample wants x, y, z in -1..1.
        matrix = np.diag(2 / size) @ linear @ np.diag(crop / 2)
        shift = 2 * centre / size - 1
        theta = np.concatenate([matrix[::-1, ::-1], shift[::-1, None]], axis=1)
        return np.ascontiguousarray(theta, dtype=np.float32)

    def _elastic(self, size: torch.Size, rng: np.random.Generator) -> Tensor:
        cells = tuple(max(3, round(n / rng.uniform(12, 24))) for n in self._crop)
        coarse = torch.from_numpy(rng.uniform(-1, 1, (1, 3, *cells)).astype(np.float32))
        field = F.interpolate(coarse, size=self._crop, mode="trilinear", align_corners=True)[0].permute(1, 2, 3, 0)
        reach = 2 * self._config.elastic / torch.tensor(list(reversed(size)), dtype=torch.float32)
        return (field * reach * float(rng.uniform(0.3, 1.0)))[None]


def transplanted_cells(cells: Tensor, case: CoarseCase, donor: CoarseCase, rng: np.random.Generator) -> Tensor:
    """Add the donor's tumour at about its own place in the atlas, on either side, to a case.

    Args:
        cells: float32 (7, D, H, W) of the case.
        case: whose they are.
        donor: whose tumour to take.
        rng: generator.

    Returns:
        A new array; the one given where the donor is the case or lacks a sequence that the case has.
    """
    if donor.name == case.name or bool((case.present & ~donor.present).any()):
        return cells
    given = donor.cells.numpy()
    if rng.random() < 0.5:
        given = given[..., ::-1]
    move = np.subtract(donor.start, case.start)
    if rng.random() < 0.5:
        move = move + rng.integers(-_ROAM, _ROAM + 1, 3)
    there = torch.from_numpy(moved(given, tuple(int(n) for n in move), tuple(cells.shape[1:])).astype(np.float32))
    images, shares = cells.split([len(MODALITIES), len(SUB_REGIONS)])
    new_images, new_shares = there.split([len(MODALITIES), len(SUB_REGIONS)])
    brain = (images.amax(dim=0) > 0) & (new_images.amax(dim=0) > 0)
    tumour = (new_shares.sum(dim=0) > _TUMOUR) & brain
    weight = F.max_pool3d(tumour.float()[None], 3, 1, 1)
    for _ in range(2):
        weight = F.avg_pool3d(weight, 3, 1, 1)
    weight = (1.5 * weight[0]).clamp(max=1) * brain
    return torch.cat([torch.lerp(images, new_images, weight), torch.where(tumour, new_shares, shares)])


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Return the rotation about the three axes (z, y, x) in turn."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (i for i in range(3) if i != axis)
        turn = np.eye(3)
        turn[[a, b], [a, b]] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix
