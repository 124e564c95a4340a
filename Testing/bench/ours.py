"""SOFA's own way on the same case: first pass, visible slice and whole box after a drag."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.clock import Timing, timed
from sofa_engine.api import ModelInfo
from sofa_engine.case import Case
from sofa_engine.geometry import Geometry
from sofa_engine.loading import load_predictor
from sofa_engine.model.config import ModelConfig
from sofa_engine.model.network import SofaModel
from sofa_engine.options import SessionOptions
from sofa_engine.runtime import choose_device
from sofa_engine.session import SegmentationSession
from sofa_engine.torch_predictor import TorchPredictor
from sofa_engine.types import MODALITIES, Box, SubRegion

#: Slices and pixels of the box that is dragged, around the middle of the volume.
BOX_SLICES, BOX_PIXELS = 40, 60


@dataclass(frozen=True)
class OurTimes:
    """What a user waits for.

    Attributes:
        first_pass: whole case, opened and normalised already, seconds.
        slices: slices that were computed.
        visible: one slice after a drag.
        box: a box of `BOX_SLICES` slices after a drag.
        flop: floating-point operations of encoding and of the first pass's masks.
        precision: what the network computed in.
        voxels: voxels of the crop, for the growth with the brain's size.
    """

    first_pass: Timing
    slices: int
    visible: Timing
    box: Timing
    flop: float
    precision: str
    voxels: int


def time_ours(model: SofaModel, case: Case, repeats: int, device: str = "auto") -> OurTimes:
    """Time a session of a model on a case; every repeat of the first pass encodes anew."""
    target = choose_device(device)
    info = ModelInfo("bench", "", model.config.arrangement, model.config.mode.value, str(target), trained=False)
    predictor = TorchPredictor(model, info, device=target)
    sessions: list[SegmentationSession] = []

    def first_pass() -> None:
        if sessions:
            sessions.pop().close()
        session = SegmentationSession(case, predictor, SessionOptions.of_mode(model.config.mode.value))
        session.first_pass()
        sessions.append(session)

    first = timed(first_pass, repeats, warm_up=0)
    session = sessions[0]
    box = _middle_box(case)
    small = Box((box.lower[0], box.lower[1] + 4, box.lower[2] + 4), box.upper)
    z = (box.lower[0] + box.upper[0]) // 2

    def visible() -> None:
        for _ in session.preview(SubRegion.ED, [box], slices=[z]):
            pass

    turn = [box, small]

    def whole_box() -> None:
        turn.reverse()  # a box that stays as it is would cost nothing
        for _ in session.refine(SubRegion.ED, [turn[0]], first_slice=z):
            pass

    crop = _brain(case)
    with FlopCounterMode(display=False) as counter:
        predictor.encode(np.zeros((4, 1, *crop.shape[1:]), np.float32), case.modalities)
        predictor.segment(np.zeros(1, dtype=np.int64))
    flop = counter.get_total_flops() * crop.shape[0]
    session.first_pass()
    return OurTimes(
        first_pass=first,
        slices=crop.shape[0],
        visible=timed(visible, max(repeats, 5)),
        box=timed(whole_box, max(repeats, 3)),
        flop=float(flop),
        precision=str(predictor.precision).removeprefix("torch."),
        voxels=int(np.prod(crop.shape)),
    )


def cold_start(weights: Path, case: Case) -> float:
    """Return seconds from a checkpoint on the disk to the first mask of one slice."""
    start = time.perf_counter()
    predictor = load_predictor(weights)
    crop = _brain(case)
    predictor.encode(np.zeros((4, 1, *crop.shape[1:]), np.float32), case.modalities)
    predictor.segment(np.zeros(1, dtype=np.int64))
    return time.perf_counter() - start


def slices_of(case: Case) -> int:
    """Return how many slices of a case show brain."""
    return _brain(case).shape[0]


def middle_slices(case: Case, count: int) -> Case:
    """Return the case with only `count` slices left in the middle of the brain."""
    brain = _brain(case)
    start = (brain.lower[0] + brain.upper[0] - count) // 2
    images = {modality: image[start : start + count] for modality, image in case.images.items()}
    matrix = case.geometry.matrix
    matrix[:3, 3] = case.geometry.index_to_ras(np.array([start, 0, 0]))
    return replace(case, images=images, geometry=Geometry.from_matrix((count, *case.geometry.shape[1:]), matrix))


def _brain(case: Case) -> Box:
    brain = np.any([image > 0 for image in case.images.values()], axis=0)
    box = Box.of_mask(brain)
    if box is None:
        raise SystemExit("The case shows no brain.")
    return box


def _middle_box(case: Case) -> Box:
    brain = _brain(case)
    centre = [(a + b) // 2 for a, b in zip(brain.lower, brain.upper, strict=True)]
    half = (min(BOX_SLICES, brain.shape[0]) // 2, BOX_PIXELS // 2, BOX_PIXELS // 2)
    lower = tuple(c - h for c, h in zip(centre, half, strict=True))
    return Box(lower, tuple(c + h for c, h in zip(centre, half, strict=True)))  # type: ignore[arg-type]


def crop_growth(model: SofaModel, sizes: list[tuple[int, int]], repeats: int) -> list[tuple[int, Timing]]:
    """Time the encoding of 8 slices of growing size; returns (pixels of all slices, seconds)."""
    info = ModelInfo("bench", "", model.config.arrangement, model.config.mode.value, "cpu", trained=False)
    predictor = TorchPredictor(model, info, device=choose_device())
    result = []
    for height, width in sizes:
        images = np.random.default_rng(0).uniform(0, 255, (4, 8, height, width)).astype(np.float32)
        timing = timed(lambda images=images: predictor.encode(images, MODALITIES), repeats)
        result.append((8 * height * width, timing))
    return result


def random_model(arrangement: ModelConfig) -> SofaModel:
    """Return an untrained network: times do not depend on what the weights have learned."""
    torch.manual_seed(0)
    return SofaModel(arrangement).eval()
