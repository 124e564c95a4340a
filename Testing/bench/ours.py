"""SOFA's own way on the same case: first pass, visible slice and whole box after a drag, memory, cost over size."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from itertools import cycle

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.cases import Patient, patient
from bench.clock import Timing, matrix_rate, peak_memory_gib, timed
from bench.rehearsal import Rehearsal
from expert_predictor import ExpertPredictor
from sofa_engine.api import ModelInfo
from sofa_engine.cropping import brain_box
from sofa_engine.loading import load_predictor
from sofa_engine.model.checkpoint import load_checkpoint
from sofa_engine.model.config import ModelConfig
from sofa_engine.model.localiser import mask_cells, slices_worth_encoding
from sofa_engine.model.network import SofaModel
from sofa_engine.normalise import normalise_case
from sofa_engine.predictor import Predictor
from sofa_engine.runtime import choose_device, tune_allocator
from sofa_engine.session import SegmentationSession
from sofa_engine.torch_predictor import TorchPredictor
from sofa_engine.types import MODALITIES, Box, SubRegion
from sofa_engine.weights import default_checkpoint

#: Crops (rows, columns) whose cost is plotted, `GROWTH_SLICES` slices each.
SIZES = [(64, 64), (96, 96), (128, 128), (192, 160), (256, 256)]
GROWTH_SLICES = 8


@dataclass(frozen=True)
class OurTimes:
    """What a user waits for.

    Attributes:
        weights: which weights; random ones cost the same.
        precision: what the network computed in.
        first_pass: normalising, both passes and labels, seconds.
        slices: slices of brain that the first pass was timed on.
        case_slices: slices of brain in the whole case; where there are more, the first pass is extrapolated.
        worth: slices of these that the localiser asks for; the others wait until a box does.
        locate: the localiser's run over the whole case, where the first pass is extrapolated and does not hold it.
        visible: one slice after a drag.
        box: a box of `box_slices` slices after a drag.
        box_slices: slices of that box.
        flop: floating-point operations of that first pass, counted while it ran.
        rate: best rate of a matrix product in the same precision, operations a second.
        peak_gib: largest memory of the process that did it all, the case and PyTorch included.
    """

    weights: str
    precision: str
    first_pass: Timing
    slices: int
    case_slices: int
    worth: int
    locate: Timing | None
    visible: Timing
    box: Timing
    box_slices: int
    flop: float
    rate: float
    peak_gib: float


def time_ours(arrangement: ModelConfig | None, repeats: int, sample: int | None) -> dict[str, object]:
    """Time sessions on the case.

    Args:
        arrangement: of a network with random weights; None takes the checkpoint that ships.
        repeats: behind every median.
        sample: so many slices stand for the first pass, and as many for the box; None computes all.
    """
    tune_allocator()
    network = load_predictor() if arrangement is None else _random(arrangement)
    device, whole = choose_device(), patient()
    asked = whole if sample is None else whole.spread(sample)

    first_pass = _FirstPass(network, asked)
    with FlopCounterMode(display=False) as counter:
        first_pass()
    first = timed(first_pass, repeats, warm_up=0)
    dragged = whole if sample is None else whole.middle(sample)
    if sample is not None:
        first_pass = _FirstPass(network, dragged)
        first_pass()
    visible, refined = _drags(first_pass.session, dragged.box(), repeats)
    worth, locate = _time_localiser(whole, device, repeats)
    return asdict(
        OurTimes(
            weights=network.info.name,
            precision=str(network.precision).removeprefix("torch."),
            first_pass=first,
            slices=asked.brain.shape[0],
            case_slices=whole.brain.shape[0],
            worth=worth,
            locate=None if sample is None else locate,
            visible=visible,
            box=refined,
            box_slices=dragged.box().shape[0],
            flop=float(counter.get_total_flops()),
            peak_gib=peak_memory_gib(device),
            rate=matrix_rate(device, network.precision),
        )
    )


def _time_localiser(whole: Patient, device: torch.device, repeats: int) -> tuple[int, Timing | None]:
    """Return how many slices the localiser that ships asks for, and its time; all and None where none ships."""
    model, _ = load_checkpoint(default_checkpoint())
    images, brain = normalise_case(whole.case)
    crop = brain_box(brain)
    if model.localiser is None:
        return crop.shape[0], None
    localiser = model.localiser.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    inside = torch.from_numpy(images[(slice(None), *crop.slices)]).to(device) / 255
    found: list[torch.Tensor] = []
    timing = timed(lambda: found.append(localiser.locate(inside, whole.case.geometry.spacing)), repeats)
    cells = mask_cells(found[-1], crop.shape, crop.shape[1:], 2)
    return len(slices_worth_encoding(cells, whole.case.geometry.spacing[0])), timing


class _FirstPass:
    """Calls that each open the case anew and segment it."""

    def __init__(self, network: TorchPredictor, patient: Patient) -> None:
        self._case = patient.case
        self._predictor: Predictor = network
        if not network.info.trained:
            self._predictor = Rehearsal(network, ExpertPredictor(patient.case, patient.truth))
        self.session = SegmentationSession(self._case, self._predictor)

    def __call__(self) -> None:
        self.session.close()
        self.session = SegmentationSession(self._case, self._predictor)
        self.session.first_pass()


def _drags(session: SegmentationSession, box: Box, repeats: int) -> tuple[Timing, Timing]:
    """Time the slice on the screen and the whole box after a face was dragged back and forth."""
    small = Box((box.lower[0], box.lower[1] + 4, box.lower[2] + 4), box.upper)
    middle = (box.lower[0] + box.upper[0]) // 2
    turns = cycle((box, small))  # a box that stays as it is costs nothing

    def visible() -> None:
        for _ in session.preview(SubRegion.ED, [next(turns)], slices=[middle]):
            pass

    def whole() -> None:
        for _ in session.refine(SubRegion.ED, [next(turns)], first_slice=middle):
            pass

    return timed(visible, max(repeats, 5)), timed(whole, max(repeats, 3))


def time_cold_start() -> dict[str, object]:
    """Answer one slice in a fresh process; returns when it was done (`time.time`), to be compared with its start."""
    tune_allocator()
    network = load_predictor()
    _answer(network, np.random.default_rng(0).uniform(0, 255, (4, 1, 192, 160)).astype(np.float32))
    return {"done": time.time()}


def time_growth(arrangement: ModelConfig, repeats: int) -> list[dict[str, float]]:
    """Time features and masks of `GROWTH_SLICES` slices of growing size."""
    tune_allocator()
    network = _random(arrangement)
    rows = []
    for height, width in SIZES:
        images = np.random.default_rng(0).uniform(0, 255, (4, GROWTH_SLICES, height, width)).astype(np.float32)
        timing = timed(lambda images=images: _answer(network, images), repeats)
        rows.append({"voxels": GROWTH_SLICES * height * width, "seconds": timing.median})
    return rows


def _answer(network: TorchPredictor, images: np.ndarray) -> None:
    network.encode(images, MODALITIES)
    network.segment(np.arange(images.shape[1]))


def _random(arrangement: ModelConfig) -> TorchPredictor:
    torch.manual_seed(0)
    device = choose_device()
    name = f"random weights, {arrangement.arrangement}"
    info = ModelInfo(name, "0" * 64, arrangement.arrangement, arrangement.mode.value, str(device), trained=False)
    return TorchPredictor(SofaModel(arrangement), info, device=device)
