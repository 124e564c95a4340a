"""What a network is made of; stored in every checkpoint. No torch."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Mode(StrEnum):
    """`PAPER` follows the letter of the text; `DEFAULT` is what serves clinicians best."""

    PAPER = "paper"
    DEFAULT = "default"


class EncoderConfig(BaseModel):
    """TinyViT as LiteMedSAM arranges it (section 3.4): four stages, the last one not downsampling.

    Attributes:
        stem_stride: 1 as LiteMedSAM publishes (features at stride 4), 2 (stride 8), or 4 as MobileSAM (stride 16).
        context: 1 for one grey slice repeated to three channels, 3 for the slices z-1, z, z+1 (2.5D).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    embed_dims: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    num_heads: tuple[int, int, int, int] = (2, 4, 5, 10)
    window_sizes: tuple[int, int, int, int] = (7, 7, 14, 7)
    stem_stride: Literal[1, 2, 4] = 1
    context: Literal[1, 3] = 1
    drop_path: float = Field(default=0.0, ge=0.0, lt=1.0)

    @property
    def feature_stride(self) -> int:
        """Pixels of the image per cell of the feature map."""
        return self.stem_stride * 4


class LocaliserConfig(BaseModel):
    """The 3D network that runs before the slices are encoded.

    Attributes:
        vote: its weight in the first pass, against the slice-wise network's.
        needs: sequences without which it is not asked, because it knows too little of such cases.
        spacing_mm: edge of the cells that it sees and classifies.
        widths: channels at `spacing_mm` and at every halving of the resolution.
        depths: residual blocks at each halved resolution.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vote: float = Field(default=0.5, ge=0, le=1)
    needs: tuple[Literal["t1", "t1c", "t2", "flair"], ...] = ("t1c", "flair")
    spacing_mm: float = Field(default=2.0, gt=0)
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    depths: tuple[int, int, int] = (1, 2, 2)


class ModelConfig(BaseModel):
    """The whole network.

    Attributes:
        arrangement: name for people ("litemedsam", "compact").
        mode: recorded with every output.
        channels: width C of the neck, prompt encoder and decoder.
        decoder_mlp: hidden width of the two-way transformer's MLP (2048 in SAM).
        attention: `pixel` weighs modalities per position, `global` per slice, `mean` not at all (ablation).
        learned_temperature: scale tanh's logits per sub-region (1 at the start), because tanh alone bounds every
            weight to 0.043..0.711 with four modalities.
        modality_conditioning: `none` as in the text (W_r has no index m, so a shared encoder is told nothing about the
            sequence), `neck` adds an embedding to f_m, `stages` also scales and shifts every stage's features.
        prompting: whether the second, box-prompted pass exists (ablation).
        dense_prompt: also show the decoder the first pass's logits inside the box, as SAM's mask prompt.
        detail: how many early feature maps, fused by the same attention, are added while the mask is upscaled: 0 as in
            SAM, 2 for stages 1 and 0, 3 for the stem's first convolution too (only with `stem_stride` 4; masks then
            have eight times the feature map's resolution instead of four).
        localiser: the 3D network that says which slices are worth encoding and votes in the first pass; None encodes
            all of them and asks nobody else, as the paper has it. It is trained apart (`sofa localiser`).
        box_prior: whether a person's box also says where in it the sub-region most likely is (an ellipsoid), as
            logits that the network corrects; needs `detail`.
        normalisation: `volume` divides [0, 255] by 255; `slice` stretches every slice as stock LiteMedSAM expects.
        resize: `native` keeps 1 mm pixels; `litemedsam` scales the longer side to 256 pixels as stock weights expect.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arrangement: str = "litemedsam"
    mode: Mode = Mode.DEFAULT
    encoder: EncoderConfig = EncoderConfig()
    channels: int = 256
    decoder_mlp: int = 2048
    decoder_heads: int = 8
    attention: Literal["pixel", "global", "mean"] = "pixel"
    learned_temperature: bool = True
    modality_conditioning: Literal["none", "neck", "stages"] = "neck"
    prompting: bool = True
    dense_prompt: bool = True
    detail: Literal[0, 2, 3] = 0
    localiser: LocaliserConfig | None = None
    box_prior: bool = False
    normalisation: Literal["volume", "slice"] = "volume"
    resize: Literal["native", "litemedsam"] = "native"

    @property
    def mask_scale(self) -> int:
        """Cells of the predicted mask per cell of the feature map, along each axis."""
        return 8 if self.detail == 3 else 4

    @property
    def detail_channels(self) -> tuple[int, ...]:
        """Channels of the early feature maps that the mask decoder is given, coarse to fine."""
        dims = self.encoder.embed_dims
        return (dims[1], dims[0], dims[0] // 2)[: self.detail]

    @property
    def picture_channels(self) -> int:
        """Planes that show the prompt to the detail paths: belief and box, ellipsoid (1)."""
        return 2 + self.box_prior

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.channels % (8 * self.decoder_heads // 4) or self.channels % 8:
            raise ValueError(
                f"channels ({self.channels}) must be divisible by 8 and by twice the heads ({self.decoder_heads})"
            )
        if self.detail == 3 and self.encoder.stem_stride != 4:
            raise ValueError("detail 3 needs stem_stride 4: other stems have nothing finer than stage 0")
        if self.box_prior and not self.detail:
            raise ValueError("box_prior is shown to the detail paths, so it needs detail 2 or 3")
        beyond = (self.learned_temperature, self.dense_prompt, self.detail, self.localiser, self.box_prior)
        if self.mode is Mode.PAPER and (any(beyond) or self.modality_conditioning != "none"):
            raise ValueError(
                "mode 'paper' excludes learned_temperature, modality_conditioning, dense_prompt, detail, localiser and "
                "box_prior"
            )
        return self


def litemedsam() -> ModelConfig:
    """Return LiteMedSAM's own arrangement with SOFA's additions of the default mode."""
    return ModelConfig()


def paper() -> ModelConfig:
    """Return the letter of the paper: LiteMedSAM, eq. 1-6, nothing else."""
    return ModelConfig(
        mode=Mode.PAPER, learned_temperature=False, modality_conditioning="none", dense_prompt=False, detail=0
    )


def compact() -> ModelConfig:
    """Return the arrangement for machines without a GPU: stride 16, narrower, fine features for the mask, box prior."""
    return ModelConfig(
        arrangement="compact",
        encoder=EncoderConfig(
            embed_dims=(32, 64, 128, 192),
            depths=(2, 2, 4, 2),
            num_heads=(1, 2, 4, 6),
            window_sizes=(8, 8, 8, 8),
            stem_stride=4,
            context=3,
        ),
        channels=192,
        decoder_mlp=768,
        modality_conditioning="stages",
        detail=3,
        box_prior=True,
    )
