"""Everything that a training run can be told, in one readable file; unknown keys are errors. No torch."""

from __future__ import annotations

import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sofa_engine.errors import InputError
from sofa_engine.model.config import ModelConfig

Kind = TypeVar("Kind", bound="Section")

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A part of a configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(Section):
    """Which slices are seen.

    Attributes:
        prepared: folder of `sofa prepare`.
        folds: file of the folds; none trains on all cases.
        fold: which fold validates; none trains on all cases and validates on nothing.
        crops: rows and columns of training images, multiples of the model's stride; batches take them in turn.
        slices_per_case: slices drawn from each case per epoch; 0 takes every slice with truth.
        background: share of drawn slices without tumour.
        off_tumour: share of crops that are centred anywhere in the brain instead of on the tumour.
        balanced: draw a sub-region first, then one of its slices, so that small ones are seen as often.
        transplant: probability that another patient's tumour is added.
        roam: pixels that such a tumour may be moved; where it may, it also changes sides half of the time.
    """

    prepared: Path = Path("prepared")
    folds: Path | None = None
    fold: int | None = Field(None, ge=0)
    crops: tuple[tuple[int, int], ...] = ((192, 160),)
    slices_per_case: int = Field(8, ge=0)
    background: Probability = 0.15
    off_tumour: Probability = 0.1
    balanced: bool = True
    transplant: Probability = 0.0
    roam: int = Field(0, ge=0)


class AugmentationConfig(Section):
    """How a slice is varied; spatial changes are one for all sequences and the truth, intensity ones per sequence.

    Attributes:
        rotation: largest rotation, degrees either way.
        scale: smallest and largest scale.
        elastic: largest displacement of the elastic deformation in pixels (0: none), and how often.
        mirror: probability of a left-right flip.
        gamma: range of the exponent, drawn in its logarithm.
        gain: largest relative change of brightness.
        offset: largest shift of brightness, in units of the full range.
        curve: largest deviation of a random monotonic contrast curve.
        bias: largest relative strength of a smooth bias field.
        noise: largest standard deviation of added noise, in units of the full range.
        blur: largest standard deviation of a blur, pixels.
        probability: how often each intensity change happens.
        reverse: probability that the neighbouring slices swap sides (2.5D only).
        modality_dropout: probability that each sequence is missing; at least one stays.
    """

    rotation: float = Field(15.0, ge=0)
    scale: tuple[float, float] = (0.9, 1.1)
    elastic: float = Field(0.0, ge=0)
    elastic_probability: Probability = 0.3
    mirror: Probability = 0.0
    gamma: tuple[float, float] = (0.7, 1.5)
    gain: float = Field(0.1, ge=0)
    offset: float = Field(0.1, ge=0)
    curve: float = Field(0.0, ge=0, lt=1)
    bias: float = Field(0.0, ge=0)
    noise: float = Field(0.0, ge=0)
    blur: float = Field(0.0, ge=0)
    probability: Probability = 1.0
    reverse: Probability = 0.0
    modality_dropout: Probability = 0.0


class PromptConfig(Section):
    """Which boxes the second pass is trained with.

    Attributes:
        own: share of boxes taken from the model's own first pass (detached); where that is empty, the truth's.
        own_after: epochs until `own` is reached, rising linearly from 0.
        cross_section: share of boxes that are the rectangle of the sub-region's 3D box in this slice.
        outward: largest outward jitter of each side, pixels.
        inward: largest inward jitter, as a share of the box's width or height.
        inward_probability: how often a side moves inward instead.
        empty: share of masks without truth and box that get a box anywhere, so that a box need not hold anything.
        grow: pixels that the model's own boxes are grown by, as the session grows them.
    """

    own: Probability = 0.35
    own_after: int = Field(0, ge=0)
    cross_section: Probability = 0.25
    outward: float = Field(5.0, ge=0)
    inward: float = Field(0.1, ge=0, lt=0.5)
    inward_probability: Probability = 0.1
    empty: Probability = 0.0
    grow: int = Field(3, ge=0)

    @model_validator(mode="after")
    def _check(self) -> PromptConfig:
        if self.own + self.cross_section > 1:
            raise ValueError("own and cross_section are shares; together they cannot exceed 1")
        return self


class LossConfig(Section):
    """L = seg * cross-entropy + iou * soft Dice (eq. 7), on both passes, and the IoU head's error.

    Attributes:
        seg: weight of the cross-entropy.
        iou: weight of the soft Dice loss of each mask.
        batch_dice: weight of a soft Dice over all masks of one sub-region in a process's batch, which small masks
            cannot dominate.
        quality: weight of the IoU head's squared error against the true IoU.
        union: weight of the same losses of the first pass's whole tumour and tumour core, the probabilities that any of
            their parts is there: what is surely tumour is not to be left to nobody because its part is in doubt.
        first_pass: weight of the first pass against the second.
        sub_regions: "one" random mask per slice and iteration (section 3.4) or "all" three.
        at: compare on the "image"'s pixels, or on the decoder's own coarser "mask" with shares of the truth as target,
            which is cheaper.
        difficulty: exponent of a weight (1 - running Dice)^d per sub-region; 0 weighs all alike.
    """

    seg: float = Field(1.0, ge=0)
    iou: float = Field(1.0, ge=0)
    batch_dice: float = Field(0.0, ge=0)
    quality: float = Field(1.0, ge=0)
    union: float = Field(0.0, ge=0)
    first_pass: float = Field(1.0, ge=0)
    sub_regions: Literal["one", "all"] = "all"
    at: Literal["image", "mask"] = "image"
    difficulty: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> LossConfig:
        if self.union and self.sub_regions != "all":
            raise ValueError("union needs the masks of all sub-regions: set sub_regions to 'all', or union to 0")
        return self


class OptimiserConfig(Section):
    """How weights move.

    Attributes:
        name: Adam as in the paper, or AdamW.
        rate: base learning rate.
        final: share of `rate` that the cosine ends at.
        warmup: steps until `rate` is reached.
        decay: weight decay of AdamW; never on biases, norms and tokens.
        new_layers: factor on the rate of layers that LiteMedSAM does not have.
        clip: largest gradient norm; 0 clips nothing.
        average: decay of the exponential moving average of the weights that validates and ships; 0: none.
    """

    name: Literal["adam", "adamw"] = "adamw"
    rate: float = Field(3e-5, gt=0)
    final: float = Field(0.0, ge=0, le=1)
    warmup: int = Field(0, ge=0)
    decay: float = Field(0.01, ge=0)
    new_layers: float = Field(1.0, gt=0)
    clip: float = Field(1.0, ge=0)
    average: float = Field(0.0, ge=0, lt=1)


class RunConfig(Section):
    """How the run goes.

    Attributes:
        epochs: passes over the drawn slices.
        batch: slices per iteration over all processes together.
        accumulate: iterations per step of the optimiser.
        precision: of the computation; weights stay fp32.
        train: "all" weights, or "decoder" for attention, prompt encoder and decoder with a frozen encoder.
        cached_variants: with a frozen encoder: how many augmented versions of each slice to encode once and keep on
            disk; 0 encodes every time.
        batch_norm: "frozen" running statistics when fine-tuning, "live" from scratch.
        validate_every: epochs between validations.
        validate_cases: at most so many cases are validated (the first of the fold); 0 takes all.
        patience: validations without a better score until the run stops early; 0 never stops.
        checkpoint_steps: iterations between checkpoints within an epoch; 0 writes them between epochs only.
        workers: processes that load slices.
        seed: of everything that is drawn.
        device: "auto", "cpu", "cuda" or "cuda:N".
        deterministic: ask torch for reproducible kernels (always so on the CPU).
        compile: run the network through torch.compile.
    """

    epochs: int = Field(200, ge=1)
    batch: int = Field(2, ge=1)
    accumulate: int = Field(1, ge=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    train: Literal["all", "decoder"] = "all"
    cached_variants: int = Field(0, ge=0)
    batch_norm: Literal["frozen", "live"] = "frozen"
    validate_every: int = Field(5, ge=1)
    validate_cases: int = Field(0, ge=0)
    patience: int = Field(0, ge=0)
    checkpoint_steps: int = Field(200, ge=0)
    workers: int = Field(2, ge=0)
    seed: int = 0
    device: str = "auto"
    deterministic: bool = False
    compile: bool = False

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        if self.cached_variants and self.train != "decoder":
            raise ValueError("cached_variants keeps the encoder's output, so it needs train = 'decoder'")
        return self


class TrainingConfig(Section):
    """One run.

    Attributes:
        start: checkpoint to begin from (LiteMedSAM's or SOFA's own); none begins with random weights.
        modalities: sequences that the model is given; the others count as missing (single-sequence rows).
    """

    start: Path | None = None
    modalities: tuple[Literal["t1", "t1c", "t2", "flair"], ...] = ("t1", "t1c", "t2", "flair")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    prompts: PromptConfig = PromptConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        stride = self.model.encoder.feature_stride
        if not self.data.crops or any(n % stride or n < stride for crop in self.data.crops for n in crop):
            raise ValueError(f"data.crops {self.data.crops} must be multiples of the model's stride {stride}")
        if self.model.resize != "native":
            raise ValueError("training keeps 1 mm pixels: set model.resize to 'native', also for stock weights")
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities must name at least one sequence, each once")
        return self


def load_config(source: str | Path, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Read a configuration.

    Args:
        source: a TOML file, or the name of one that ships ("paper", "default", "compact").
        overrides: values by dotted key ("run.epochs"), which win over the file.

    Raises:
        InputError: the file is missing or no TOML, or a key or value is wrong; the sentence names it.
    """
    return build_config(read_toml(source), overrides or {}, str(source))


def read_toml(source: str | Path, kind: str = "") -> dict[str, Any]:
    """Return the values of a TOML file, or of a configuration that ships, by its name.

    Args:
        source: path or name.
        kind: folder of the shipped ones: "" for runs of `sofa train`, "localiser" for those of `sofa localiser`.

    Raises:
        InputError: the file is missing or no TOML.
    """
    shipped = _shipped(kind) / f"{source}.toml"
    try:
        text = shipped.read_text(encoding="utf-8") if shipped.is_file() else Path(source).read_text(encoding="utf-8")
        return tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(shipped_configs(kind))
        raise InputError(f"There is no configuration {source}; give a TOML file or one of {names}.") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source} is not valid TOML: {error}.") from error


def build_config(values: dict[str, Any], overrides: dict[str, Any], source: str) -> TrainingConfig:
    """Validate the values of a configuration after setting overrides by dotted key.

    Raises:
        InputError: a key or value is wrong.
    """
    return validate_config(TrainingConfig, values, overrides, source)


def validate_config(kind: type[Kind], values: dict[str, Any], overrides: dict[str, Any], source: str) -> Kind:
    """Build a configuration of some kind from values and overrides by dotted key.

    Raises:
        InputError: a key or value is wrong; the sentence names `source` and the key.
    """
    for key, value in overrides.items():
        *sections, last = key.split(".")
        target = values
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise InputError(f"{key} cannot be set: {section} is a value and no section.")
        target[last] = value
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        what = "is not a known key" if first["type"] == "extra_forbidden" else f"is wrong: {first['msg']}"
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise InputError(f"In {source}, {where} {what}{more}.") from error


def shipped_configs(kind: str = "") -> tuple[str, ...]:
    """Return the names of the configurations that ship; `kind` as in `read_toml`."""
    items = _shipped(kind).iterdir()
    return tuple(sorted(item.name.removesuffix(".toml") for item in items if item.name.endswith(".toml")))


def _shipped(kind: str) -> Traversable:
    folder = resources.files("sofa_training") / "configs"
    return folder / kind if kind else folder


def dump_config(config: BaseModel) -> str:
    """Return the configuration as TOML, complete, as it is printed and saved with a run."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
