"""Measuring a model on whole volumes, through the very session that clinicians use, under named protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from sofa_engine.api import ModelInfo
from sofa_engine.errors import CancelledError, SofaError
from sofa_engine.options import SessionOptions
from sofa_engine.predictor import Predictor
from sofa_engine.session import SegmentationSession
from sofa_engine.types import MODALITIES, SUB_REGIONS, Modality
from sofa_training.cases import TrainingCase
from sofa_training.edits import EditCurve, correct_until
from sofa_training.metrics import RegionScore, score_labels, score_region
from sofa_training.protocols import Protocol, control_mask, refine_with_person_boxes, segment_with_oracle
from sofa_training.regions import REGIONS, region_mask
from sofa_training.reliability import FirstAnswers, Reliability, measure_reliability
from sofa_training.working import WorkingCase, open_working_case

#: A slice to look at: grey values, truth and found labels, each uint8 (H, W).
Picture = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class CaseResult:
    """One case under one protocol.

    Attributes:
        case: its name.
        protocol: how the result was obtained.
        scores: per region of `REGIONS`.
        controls: what the protocol's boxes alone score, same order.
    """

    case: str
    protocol: Protocol
    scores: tuple[RegionScore, ...]
    controls: tuple[RegionScore, ...]


@dataclass(frozen=True)
class FailedCase:
    """A case that could not be measured, and the sentence that says why."""

    case: str
    sentence: str


@dataclass(frozen=True)
class Evaluation:
    """Everything measured of one model.

    Attributes:
        model: which.
        results: case by case and protocol by protocol.
        curves: corrections simulated per case, empty if not asked for.
        reliability: per case, empty if not asked for.
        pictures: by case and protocol, the slice with most tumour.
        trained_on: names of the measured cases that the model was trained on, None where that is not known.
        failed: cases that were asked for and are in no number.
    """

    model: ModelInfo
    results: tuple[CaseResult, ...]
    curves: tuple[EditCurve, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    pictures: Mapping[tuple[str, Protocol], Picture] = field(default_factory=dict)
    trained_on: frozenset[str] | None = None
    failed: tuple[FailedCase, ...] = ()


@dataclass(frozen=True)
class EvaluationOptions:
    """What to measure.

    Attributes:
        protocols: one or more.
        distances: whether to compute HD95.
        edits: how many corrections to simulate per case; 0 leaves the curve out.
        reliability: whether to measure calibration.
        pictures: whether to keep a slice of every result.
        sequences: what the model is given of each case; the others count as missing.
    """

    protocols: tuple[Protocol, ...] = (Protocol.AUTO,)
    distances: bool = True
    edits: int = 0
    reliability: bool = False
    pictures: bool = True
    sequences: tuple[Modality, ...] = MODALITIES


def evaluate(
    cases: Sequence[TrainingCase],
    predictor: Predictor,
    options: EvaluationOptions,
    *,
    session_options: SessionOptions | None = None,
    progress: Callable[[tuple[CaseResult, ...] | FailedCase], None] | None = None,
) -> Evaluation:
    """Segment and score cases one after the other; one that cannot be read or segmented does not keep the others.

    Args:
        cases: with truth; none of them may have been trained on, which only the caller can know.
        predictor: the model.
        options: what to measure.
        session_options: the session's choices; those of the model's mode if None.
        progress: told the results of each case as it is done, or that it failed.
    """
    measured: list[_Measured] = []
    failed: list[FailedCase] = []
    for files in cases:
        try:
            measured.append(_measure(files, predictor, options, session_options))
        except CancelledError:
            raise
        except (SofaError, MemoryError) as error:
            failed.append(FailedCase(files.name, str(error) or "There is not enough memory for it."))
            if progress is not None:
                progress(failed[-1])
            continue
        if progress is not None:
            progress(measured[-1].results)
    return Evaluation(
        predictor.info,
        results=tuple(result for case in measured for result in case.results),
        curves=tuple(case.curve for case in measured if case.curve is not None),
        reliability=tuple(case.reliability for case in measured if case.reliability is not None),
        pictures={key: picture for case in measured for key, picture in case.pictures.items()},
        failed=tuple(failed),
    )


@dataclass(frozen=True)
class _Measured:
    """Everything measured of one case; what was not asked for is None or empty."""

    results: tuple[CaseResult, ...]
    curve: EditCurve | None
    reliability: Reliability | None
    pictures: Mapping[tuple[str, Protocol], Picture]


def _measure(
    files: TrainingCase, predictor: Predictor, options: EvaluationOptions, session_options: SessionOptions | None
) -> _Measured:
    """Segment and score one case.

    Raises:
        SofaError: it cannot be read or segmented.
    """
    working = open_working_case(files).with_sequences(options.sequences)
    asked = FirstAnswers(predictor) if options.reliability else predictor
    with closing(SegmentationSession(working.case, asked, session_options)) as session:
        session.first_pass()
        # `asked` remembers answers where reliability is to be measured.
        honest = measure_reliability(files.name, session, asked, working) if options.reliability else None
        labels = _labels_of(options.protocols, session, predictor, working, files.name)
        results = tuple(_score(files.name, protocol, found, working, options) for protocol, found in labels.items())
        pictures = {(files.name, p): _picture(working, found) for p, found in labels.items() if options.pictures}
        curve = None
        if options.edits:
            _take_back(session)
            curve = correct_until(session, working.truth, files.name, options.edits)
    return _Measured(results, curve, honest, pictures)


def _take_back(session: SegmentationSession) -> None:
    """Bring a session back to its first pass; undo does it bit for bit and costs no decoding."""
    while session.can_undo():
        session.undo()
    if session.boxes() != session.first_boxes():
        session.first_pass()  # the history was too small for all steps; the embeddings are kept


def _labels_of(
    protocols: Sequence[Protocol],
    session: SegmentationSession,
    predictor: Predictor,
    working: WorkingCase,
    name: str,
) -> dict[Protocol, np.ndarray]:
    """Return labels on the working grid; the protocols that leave the session as it is come first."""
    labels: dict[Protocol, np.ndarray] = {}
    if Protocol.AUTO in protocols:
        labels[Protocol.AUTO] = session.labels()
    if Protocol.ORACLE in protocols:
        labels[Protocol.ORACLE] = segment_with_oracle(
            working.case, working.truth, predictor, session.options, session.probabilities()
        )
    if Protocol.BOX3D in protocols:
        labels[Protocol.BOX3D] = refine_with_person_boxes(session, working.truth, name)
    return {protocol: labels[protocol] for protocol in protocols}


def _score(
    name: str, protocol: Protocol, labels: np.ndarray, working: WorkingCase, options: EvaluationOptions
) -> CaseResult:
    spacing = working.grid.reference.spacing
    truth = working.reference_truth
    scores = score_labels(working.to_reference(labels), truth, spacing, distances=options.distances)
    controls = tuple(
        score_region(
            region, _control(name, protocol, region, working), region_mask(truth, region), spacing, distances=False
        )
        for region in REGIONS
    )
    return CaseResult(name, protocol, scores, controls)


def _control(name: str, protocol: Protocol, region: str, working: WorkingCase) -> np.ndarray:
    """Return the control on the patient's grid, drawn where the model is given the boxes: on the working grid."""
    drawn = control_mask(protocol, working.truth, region, name)
    return working.to_reference(np.where(drawn, SUB_REGIONS[0].label, 0).astype(np.uint8)) > 0


def _picture(working: WorkingCase, labels: np.ndarray) -> Picture:
    """Return the slice with the largest tumour: grey values stretched to uint8, truth, found."""
    images = working.case.images
    image = images[working.case.modalities[-1]]
    index = int(np.count_nonzero(working.truth, axis=(1, 2)).argmax())
    high = float(np.percentile(image[image > 0], 99.5)) if bool((image > 0).any()) else 1.0
    grey = np.clip(image[index] / high * 255, 0, 255).astype(np.uint8)
    return grey, working.truth[index].copy(), labels[index].copy()
