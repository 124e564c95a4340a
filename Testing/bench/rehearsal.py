"""Random weights that cost what trained ones cost, for arrangements of which no checkpoint ships."""

from __future__ import annotations

from typing import Any

import numpy as np

from expert_predictor import ExpertPredictor
from sofa_engine.api import ModelInfo
from sofa_engine.predictor import SlicePrediction
from sofa_engine.torch_predictor import TorchPredictor
from sofa_engine.types import Modality, SubRegion


class Rehearsal:
    """A `Predictor` that lets the network compute everything and answers with the expert's mask.

    So the second pass is asked for the slices in which there is tumour, and a drag for those in its box. Random
    answers would ask for all slices or none.
    """

    def __init__(self, network: TorchPredictor, expert: ExpertPredictor) -> None:
        self._network, self._expert = network, expert

    @property
    def info(self) -> ModelInfo:
        return self._network.info

    def encode(self, images: np.ndarray, modalities: tuple[Modality, ...], *rest: Any, **options: Any) -> None:
        self._network.encode(images, modalities, *rest, **options)
        self._expert.encode(images, modalities)

    def segment(self, slices: np.ndarray, **options: Any) -> SlicePrediction:
        self._network.segment(slices, **options)
        return self._expert.segment(slices)

    def prompt(
        self, sub_region: SubRegion, slices: np.ndarray, boxes: np.ndarray, *rest: Any, **options: Any
    ) -> SlicePrediction:
        self._network.prompt(sub_region, slices, boxes, *rest, **options)
        return self._expert.prompt(sub_region, slices, boxes)

    def believe(self, probabilities: np.ndarray) -> None:
        self._network.believe(probabilities)

    def look_ahead(self) -> bool:
        return False

    def attention(self) -> np.ndarray:
        return self._network.attention()

    def release(self) -> None:
        self._network.release()
