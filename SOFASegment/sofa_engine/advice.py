"""Sentences that tell a user in advance what a result cannot be trusted for."""

from __future__ import annotations

from sofa_engine.api import ModelInfo
from sofa_engine.case import Case
from sofa_engine.normalise import intensity_warnings
from sofa_engine.types import MODALITIES, Modality

_COST = {
    Modality.T1: "Without T1, blood and other tissue that is bright by itself can pass for enhancement.",
    Modality.T1C: "Without T1c, the enhancing tumour and the necrotic core cannot be outlined reliably.",
    Modality.T2: "Without T2, the extent of the oedema is less certain.",
    Modality.FLAIR: "Without FLAIR, oedema is hard to tell from fluid in and around the brain.",
}


def warnings_for(case: Case, model: ModelInfo) -> tuple[str, ...]:
    """Return `case_warnings`, and whether the model knows anything."""
    if model.trained:
        return case_warnings(case)
    untrained = "The model has random weights: its segmentation means nothing until a trained checkpoint is loaded."
    return (untrained, *case_warnings(case))


def case_warnings(case: Case) -> tuple[str, ...]:
    """Return what is unusual about the case and what its missing sequences cost."""
    missing = (_COST[m] for m in MODALITIES if m not in case.images)
    return (*case.warnings, *intensity_warnings(case), *missing)
