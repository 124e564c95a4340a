"""The three ways to measure, never mixed: what of the truth each one shows to the model, and its image-free control."""

from __future__ import annotations

import zlib
from enum import StrEnum

import numpy as np

from sofa_engine.anatomy import fill, holes
from sofa_engine.case import Case
from sofa_engine.combine import combine
from sofa_engine.cropping import brain_box
from sofa_engine.normalise import normalise_case
from sofa_engine.options import SessionOptions
from sofa_engine.predictor import Predictor
from sofa_engine.prompts import slice_boxes
from sofa_engine.session import SegmentationSession
from sofa_engine.types import SUB_REGIONS, Box, SubRegion
from sofa_training.controls import ellipses_in_slice_boxes, ellipsoid_in_box
from sofa_training.regions import REGIONS, region_mask


class Protocol(StrEnum):
    """How a result was obtained; part of every table."""

    AUTO = "auto"
    BOX3D = "box3d"
    ORACLE = "oracle"

    @property
    def title(self) -> str:
        """What the protocol shows to the model, for people."""
        return {
            "auto": "nothing of the truth is used",
            "box3d": "one 3D box per sub-region from the truth, jittered as a person draws",
            "oracle": "a tight box from the truth in every slice that has the sub-region",
        }[self.value]

    @property
    def control_title(self) -> str:
        """What the control draws without reading any image, for people."""
        return {
            "auto": "nothing drawn",
            "box3d": "ellipsoid in the same 3D box",
            "oracle": "ellipse in the same box of every slice",
        }[self.value]


def person_box(truth: np.ndarray, key: str) -> Box | None:
    """Return the 3D box that a person might draw around a mask: a little too large, now and then too small.

    Faces move outward by 1 +- 1.5 pixels in plane and 0.5 +- 1 slices, rounded, between -3 and 5.

    Args:
        truth: bool (D, H, W).
        key: seeds the jitter, so that every model gets the same box; the case's and region's name.

    Returns:
        The box, or None where the mask is empty.
    """
    tight = Box.of_mask(truth)
    if tight is None:
        return None
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    mean, spread = np.array([0.5, 1.0, 1.0]), np.array([1.0, 1.5, 1.5])
    below, above = (np.clip(np.rint(rng.normal(mean, spread)), -3, 5).astype(int) for _ in range(2))
    lower = np.clip(np.array(tight.lower) - below, 0, np.array(truth.shape) - 1)
    upper = np.clip(np.array(tight.upper) + above, lower + 1, truth.shape)
    return Box(tuple(int(v) for v in lower), tuple(int(v) for v in upper))  # type: ignore[arg-type]


def refine_with_person_boxes(session: SegmentationSession, truth: np.ndarray, name: str) -> np.ndarray:
    """Give each sub-region its 3D box, largest first; one that is absent from the truth is emptied.

    Args:
        session: after its first pass; its state changes.
        truth: uint8 (D, H, W).
        name: of the case.

    Returns:
        Labels uint8 (D, H, W).
    """
    masks = {sub_region: truth == sub_region.label for sub_region in SUB_REGIONS}
    for sub_region in sorted(SUB_REGIONS, key=lambda r: -int(np.count_nonzero(masks[r]))):
        box = person_box(masks[sub_region], f"{name} {sub_region.value.upper()}")
        for _ in session.refine(sub_region, [box] if box is not None else []):
            pass
    return session.labels()


def segment_with_oracle(
    case: Case, truth: np.ndarray, predictor: Predictor, options: SessionOptions, first: np.ndarray
) -> np.ndarray:
    """Prompt each slice that has a sub-region with its tight box, clip to the box, and combine.

    As in a session, where `options.anatomy` says so, what the first pass found in a box stays, and what the tumour
    encloses in a box of oedema is oedema.

    Args:
        case: as the session opened it.
        truth: uint8 (D, H, W).
        predictor: the session's after its first pass, which holds the embeddings of the case's brain.
        options: the session's.
        first: the session's probabilities after its first pass, (3, D, H, W).

    Returns:
        Labels uint8 (D, H, W).
    """
    crop = brain_box(normalise_case(case)[1])
    inside, found = truth[crop.slices], first[(slice(None), *crop.slices)]
    probabilities = np.zeros((len(SUB_REGIONS), *crop.shape), dtype=np.float32)
    step = options.batch_slices
    boxed = np.zeros(probabilities.shape, dtype=bool)
    for sub_region in SUB_REGIONS:
        slices, boxes = slice_boxes(inside == sub_region.label)
        for at in range(0, len(slices), step):
            part, prompts = slices[at : at + step], boxes[at : at + step]
            answers = predictor.prompt(sub_region, part, prompts).probabilities
            for index, (x0, y0, x1, y1), answer in zip(part, prompts.astype(int), answers, strict=True):
                there = (sub_region.index, index, slice(y0, y1), slice(x0, x1))
                boxed[there] = True
                probabilities[there] = np.nan_to_num(answer[y0:y1, x0:x1])
                if options.anatomy:
                    probabilities[there] = np.maximum(probabilities[there], found[there])
    if options.anatomy:
        enclosed = holes(np.any(probabilities > options.tau, axis=0))
        oedema = SubRegion.ED.index
        fill(probabilities[oedema], enclosed & boxed[oedema], options.tau)
    labels = np.zeros(truth.shape, dtype=np.uint8)
    stated = np.ones(probabilities.shape, dtype=bool) if options.anatomy else None
    labels[crop.slices] = combine(probabilities, options.tau, stated=stated)
    return labels


def control_mask(protocol: Protocol, truth: np.ndarray, region: str, name: str) -> np.ndarray:
    """Return what the protocol's boxes alone give for a region, bool (D, H, W), reading no image.

    Args:
        protocol: which boxes.
        truth: uint8 (D, H, W).
        region: one of `REGIONS`; unions get boxes of their own, which favours the control.
        name: of the case.
    """
    if region not in REGIONS:
        raise ValueError(f"{region} is none of {REGIONS}.")
    mask = region_mask(truth, region)
    if protocol is Protocol.ORACLE:
        return ellipses_in_slice_boxes(mask)
    if protocol is Protocol.BOX3D:
        return ellipsoid_in_box(mask.shape, person_box(mask, f"{name} {region}"))
    return np.zeros_like(mask)
