"""Where a run's weights come from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sofa_engine.errors import WeightsError
from sofa_engine.model.checkpoint import CheckpointInfo, load_checkpoint
from sofa_engine.model.config import Mode, ModelConfig
from sofa_engine.model.network import SofaModel
from sofa_training.config import TrainingConfig

#: Parts that may be new in the arrangement that is trained: each starts as the identity or from the prompt encoder.
_MAY_BE_NEW = (
    "attention.",
    "first_tokens",
    "image_encoder.conditioning",
    "mask_decoder.detail",
    "prompt_encoder.mask",
    "box_prior.",
)


#: Weights that look at the prompt's picture, whose planes are their last input channels.
_SEES_PICTURE = re.compile(r"mask_decoder\.detail\.\d\.mix\.0\.weight")


class Start(NamedTuple):
    """The checkpoint that a run begins from.

    Attributes:
        path: its file.
        model: its network.
        info: what it says of itself.
    """

    path: Path
    model: SofaModel
    info: CheckpointInfo

    @staticmethod
    def of(path: Path | None) -> Start | None:
        """Read a checkpoint; None where there is none to begin from.

        Raises:
            WeightsError: it cannot be loaded.
        """
        return None if path is None else Start(path, *load_checkpoint(path))


def build_model(config: ModelConfig, start: Start | None, seed: int) -> SofaModel:
    """Return the network to train.

    Args:
        config: its arrangement.
        start: checkpoint to begin from, or None for random weights.
        seed: of the random weights.

    Raises:
        WeightsError: the checkpoint is of another arrangement, or nothing brings the localiser.
    """
    torch.manual_seed(seed)
    model = SofaModel(config)
    if start is None:
        if model.localiser is not None:
            raise WeightsError(
                "A localiser is trained apart: leave [model.localiser] out here, train one with `sofa localiser train` "
                "and add it to the result with `sofa localiser join`."
            )
        return model
    source = start.model
    given, wanted = source.state_dict(), model.state_dict()
    for key in given:
        if _SEES_PICTURE.fullmatch(key) and key in wanted:
            given[key] = _widened(given[key], wanted[key])
    wrong = [key for key in wanted if key in given and given[key].shape != wanted[key].shape]
    missing = [key for key in wanted if key not in given and not key.startswith(_MAY_BE_NEW)]
    if wrong or missing:
        example = (wrong or missing)[0]
        raise WeightsError(
            f"{start.path.name} is of another arrangement ({source.config.arrangement}) than the configuration's "
            f"({config.arrangement}): {len(wrong) + len(missing)} tensors differ, for example {example}. Choose a "
            "matching start, or set [model] to the checkpoint's arrangement."
        )
    model.load_state_dict({key: value for key, value in given.items() if key in wanted}, strict=False)
    if "first_tokens" not in given:
        model.reset_first_tokens()
    return model


def keep_localiser(config: TrainingConfig, start: Start | None) -> TrainingConfig:
    """Return the configuration with the localiser of its start, where only the start has one."""
    if start is None or config.model.localiser is not None or config.model.mode is Mode.PAPER:
        return config
    localiser = start.model.config.localiser
    return config.model_copy(update={"model": config.model.model_copy(update={"localiser": localiser})})


def _widened(given: Tensor, wanted: Tensor) -> Tensor:
    """Return a convolution's weights with as many inputs as are wanted; new ones start without a say."""
    more = wanted.shape[1] - given.shape[1]
    if more <= 0 or given.shape[0] != wanted.shape[0]:
        return given
    return torch.cat([given, given.new_zeros(given.shape[0], more, *given.shape[2:])], dim=1)
