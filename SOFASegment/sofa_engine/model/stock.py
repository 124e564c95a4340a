"""Names of tensors in the checkpoints that others publish, and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from sofa_engine.model.config import EncoderConfig, ModelConfig

#: Classification head that MobileSAM carries along, and buffers that older code saved but that follow from the shape.
_IGNORED = re.compile(r"^image_encoder\.(norm_head|head)\.|\.attention_bias_idxs$|\.ab$")

_RULES = (
    (re.compile(r"^image_encoder\.patch_embed\.seq\.0\."), "image_encoder.body.patch_embed.conv1."),
    (re.compile(r"^image_encoder\.patch_embed\.seq\.2\."), "image_encoder.body.patch_embed.conv2."),
    (re.compile(r"^image_encoder\.layers\.(\d+)\.blocks\."), r"image_encoder.body.stages.\1.blocks."),
)
_DOWNSAMPLE = re.compile(r"^image_encoder\.layers\.(\d+)\.downsample\.")
_STEM = "image_encoder.body.patch_embed.conv1.conv.weight"


def looks_like_stock(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are named as LiteMedSAM and MobileSAM name theirs."""
    return any(key.startswith("image_encoder.layers.") for key in state)


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a LiteMedSAM or MobileSAM state_dict under the names of `SofaModel`.

    timm keeps a downsampling layer at the start of the stage that it feeds, the authors at the end of the one before;
    and timm calls `conv` what they call `c`.
    """
    renamed = {}
    for key, value in state.items():
        if _IGNORED.search(key):
            continue
        name = _DOWNSAMPLE.sub(lambda m: f"image_encoder.body.stages.{int(m[1]) + 1}.downsample.", key)
        for pattern, replacement in _RULES:
            name = pattern.sub(replacement, name)
        if name.startswith("image_encoder.body."):
            name = re.sub(r"\.c\.weight$", ".conv.weight", name)
        renamed[name] = value
    return renamed


def config_of(renamed: Mapping[str, Tensor]) -> ModelConfig:
    """Return the arrangement that stock weights were trained for, with everything that they were not switched off.

    Stock weights saw one grey slice, stretched to 0..1 by itself and resized to 256 pixels, and no mask prompts.
    """
    mobile = renamed[_STEM].shape[-1] == 3
    return ModelConfig(
        arrangement="mobilesam" if mobile else "litemedsam",
        encoder=EncoderConfig(stem_stride=4 if mobile else 1),
        modality_conditioning="none",
        dense_prompt=False,
        normalisation="slice",
        resize="litemedsam",
    )
