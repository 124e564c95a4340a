"""The network as the session sees it: fused features kept per slice, masks on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from sofa_engine.api import ModelInfo
from sofa_engine.errors import SofaError
from sofa_engine.feature_store import FeatureStore
from sofa_engine.memory import give_back, is_out_of_memory, told_when_short
from sofa_engine.model.localiser import agreed, mask_cells, slices_worth_encoding
from sofa_engine.model.network import Fused, RegionFeatures, SofaModel
from sofa_engine.model.prior import Prompt
from sofa_engine.predictor import SlicePrediction
from sofa_engine.progress import CancelToken, Progress, ProgressCallback
from sofa_engine.runtime import choose_feature_bytes, choose_precision, device_for_volumes
from sofa_engine.slice_frame import SliceFrame
from sofa_engine.types import MODALITIES, SUB_REGIONS, Modality, SubRegion

T = TypeVar("T")

#: Slices per batch on a GPU: large ones fill it, and shrink when they must.
_GPU_SLICES = 32


@dataclass
class _Kept:
    """What stays of an encoded case: half-precision features of every slice.

    Attributes:
        frame: geometry of the slices.
        worth: bool (D,), slices that the first pass asks the slice-wise network about.
        asked: bool (D,), those and the ones with a box.
        volume: float32 (M, D, H, W), what the slices are encoded from.
        modalities: sequences of the case.
        features: one `Fused` per slice, with a leading axis of 1; None for slices that nothing has asked for; in memory
            up to a limit, then in a file.
        coarse: localiser's logits, float16 (D, 3, kh, kw) on the cells of the masks, None where it was not asked.
        belief: first pass's logits per slice, the localiser's vote included, (3, kh, kw) float16, or None before they
            were needed.
    """

    frame: SliceFrame
    worth: np.ndarray
    asked: np.ndarray
    volume: Tensor
    modalities: tuple[Modality, ...]
    features: FeatureStore
    coarse: Tensor | None
    belief: list[Tensor | None]


class TorchPredictor:
    """Implements `sofa_engine.predictor.Predictor` with PyTorch on one device.

    Every verb raises `OutOfMemoryError` where the device's memory does not hold what it needs.
    """

    def __init__(
        self,
        model: SofaModel,
        info: ModelInfo,
        *,
        device: torch.device | str = "cpu",
        precision: torch.dtype | None = None,
        feature_bytes: int | None = None,
    ) -> None:
        """Take over a model; its layers are rewritten for inference, so hand over a copy of one that is trained on.

        Args:
            model: the network.
            info: what to call it.
            device: where it runs.
            precision: what autocast computes in; None chooses by measurement.
            feature_bytes: memory that a case's features may take, beyond it they go to a temporary file; None chooses
                by the device's memory.
        """
        self._device = torch.device(device)
        self._precision = precision or choose_precision(self._device)
        self._volume_device = device_for_volumes(self._device)
        self._model = _placed(prepare_for_inference(model), self._device, self._volume_device)
        self._info = info
        # On a CPU larger batches are not faster, and a stem that halves less makes each slice need more memory.
        self._batch = model.config.encoder.stem_stride if self._device.type == "cpu" else _GPU_SLICES
        # Features are kept in two bytes: as computed where that is bfloat16, else in float16, which is finer.
        self._keep_dtype = torch.bfloat16 if self._precision is torch.bfloat16 else torch.float16
        self._feature_bytes = choose_feature_bytes(self._device) if feature_bytes is None else feature_bytes
        self._case: _Kept | None = None

    @property
    def info(self) -> ModelInfo:
        """Which model this is and where it runs."""
        return self._info

    @property
    def precision(self) -> torch.dtype:
        """What the network computes in."""
        return self._precision

    @told_when_short
    @torch.inference_mode()
    def encode(
        self,
        images: np.ndarray,
        modalities: tuple[Modality, ...],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        """Locate the tumour, and compute and keep the fused features of the slices around it; see `Predictor.encode`.

        Without a localiser, or without the sequences that it needs, every slice is encoded. Else slices far from
        anything suspicious wait until a box asks for them.
        """
        depth = images.shape[1]
        frame = SliceFrame.of(self._model.config, (images.shape[2], images.shape[3]))
        volume = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
        worth = np.ones(depth, dtype=bool)
        kept = FeatureStore(depth, self._feature_bytes)
        case = _Kept(frame, worth, worth.copy(), volume, tuple(modalities), kept, None, [None] * depth)
        start = time.monotonic()
        coarse = self._locate(case, spacing)
        if coarse is not None:
            case.worth[:] = np.isin(np.arange(depth), slices_worth_encoding(coarse, spacing[0]))
            case.asked[:] = case.worth
            case.coarse = coarse.half().to(self._device)
        wanted = np.flatnonzero(case.worth)
        if cancel is not None:
            cancel.check()
        for done in self._keep(case, wanted, cancel):
            if progress is not None:
                left = (time.monotonic() - start) / done * (len(wanted) - done)
                progress(Progress("Encoding slices", done / len(wanted), left))
        self._case = case

    def _locate(self, case: _Kept, spacing: tuple[float, float, float]) -> Tensor | None:
        """Return the localiser's logits on the cells of the masks, float32 (D, 3, kh, kw); None without its answer."""
        localiser, frame = self._model.localiser, case.frame
        if localiser is None or not set(localiser.config.needs) <= {m.value for m in case.modalities}:
            return None
        full = case.volume.new_zeros(len(MODALITIES), *case.volume.shape[1:])
        full[[MODALITIES.index(m) for m in case.modalities]] = case.volume / 255
        with self._autocast(self._volume_device):
            logits = localiser.locate(full.to(self._volume_device), spacing)
        return mask_cells(logits, (len(case.features), *frame.scaled), frame.padded, self._model.mask_pixel)

    def _keep(self, case: _Kept, slices: np.ndarray, cancel: CancelToken | None) -> Iterator[int]:
        """Encode slices and keep their features; yield after every batch how many are done."""
        index = [MODALITIES.index(m) for m in case.modalities]
        compute = partial(self._encode_batch, case.volume, index, case.frame)
        done = 0
        for rows in self._in_batches(slices, compute, cancel):
            for z, row in zip(slices[done:], rows, strict=False):
                case.features[z] = row
            done += len(rows)
            yield done

    def _encode_batch(self, volume: Tensor, index: list[int], frame: SliceFrame, slices: np.ndarray) -> list[Fused]:
        config = self._model.config
        depth = volume.shape[1]
        reach = config.encoder.context // 2
        # Beyond the first and last slice the edge slice stands in; one grey slice is repeated to three channels.
        neighbours = np.clip(slices[:, None] + np.array([-reach, 0, reach]), 0, depth - 1)
        stacks = volume[:, torch.from_numpy(neighbours)].transpose(0, 1)  # (n, M, 3, H, W)
        pixels = frame.images(stacks.to(self._device), config)
        full = pixels.new_zeros(len(slices), len(MODALITIES), *pixels.shape[2:])
        full[:, index] = pixels
        present = torch.zeros(len(slices), len(MODALITIES), dtype=torch.bool, device=self._device)
        present[:, index] = True
        with self._autocast():
            fused = self._model.encode(full, present)
        kept = Fused(
            fused.maps.to(self._keep_dtype), fused.alpha.half(), tuple(x.to(self._keep_dtype) for x in fused.fine)
        )
        return [_row(kept, i) for i in range(len(slices))]

    @told_when_short
    @torch.inference_mode()
    def segment(self, slices: np.ndarray, *, cancel: CancelToken | None = None) -> SlicePrediction:
        """Decode slices without a box, for all sub-regions; see `Predictor.segment`.

        Slices that are not worth encoding hold nothing that the localiser would take for tumour; its own answer stands
        there, also once a box had one of them encoded.
        """
        case, slices = self._encoded(), np.asarray(slices)
        shape = (len(SUB_REGIONS), len(slices))
        found = SlicePrediction(np.zeros((*shape, *case.frame.size), np.float32), np.zeros(shape, np.float32))
        worth = case.worth[slices]
        if case.coarse is not None and not worth.all():
            far = np.flatnonzero(~worth)
            for z in slices[far]:
                case.belief[z] = case.coarse[z]
            answer = case.frame.masks(case.coarse[slices[far]].flatten(0, 1).float()).sigmoid().cpu()
            found.probabilities[:, far] = answer.unflatten(0, (len(far), -1)).transpose(0, 1).numpy()
            # Certain of absence as far as nothing is likely anywhere in the slice.
            found.quality[:, far] = 1 - found.probabilities[:, far].max(axis=(2, 3))
        near = np.flatnonzero(worth)
        done = 0
        for masks, qualities in self._in_batches(slices[near], partial(self._segment_batch, case), cancel):
            here = near[done : done + len(masks)]
            found.probabilities[:, here] = masks.transpose(0, 1).numpy()
            found.quality[:, here] = qualities.T.numpy()
            done += len(masks)
        return found

    def _segment_batch(self, case: _Kept, slices: np.ndarray) -> tuple[Tensor, Tensor]:
        count, regions = len(slices), len(SUB_REGIONS)
        rows = torch.arange(count, device=self._device).repeat_interleave(regions)
        which = torch.arange(regions, device=self._device).repeat(count)
        features = self._features(case, slices, rows, which)
        with self._autocast():
            logits, quality = self._model.first_pass(features)
        logits = logits.float()
        if case.coarse is not None and self._model.localiser is not None:
            coarse = case.coarse[torch.from_numpy(slices)].to(self._device).flatten(0, 1)
            logits = agreed(logits, coarse, self._model.localiser.config.vote)
        for i, z in enumerate(slices):
            case.belief[z] = logits[i * regions : (i + 1) * regions].half()
        masks = case.frame.masks(logits).sigmoid().cpu()
        quality = quality.float().clamp(0, 1).cpu()
        return masks.unflatten(0, (count, regions)), quality.unflatten(0, (count, regions))

    @told_when_short
    @torch.inference_mode()
    def prompt(
        self,
        sub_region: SubRegion,
        slices: np.ndarray,
        boxes: np.ndarray,
        heights: np.ndarray | None = None,
        *,
        stated: bool = True,
        cancel: CancelToken | None = None,
    ) -> SlicePrediction:
        """Decode one sub-region with a box per slice; see `Predictor.prompt`."""
        case, config = self._encoded(), self._model.config
        slices = np.asarray(slices)
        case.asked[slices] = True
        far = np.intersect1d(slices, case.features.waiting())
        for _ in self._keep(case, far, cancel):
            pass
        if config.dense_prompt or config.detail:
            unseen = np.array(sorted({int(z) for z in slices if case.belief[z] is None}), dtype=np.int64)
            if unseen.size:
                self.segment(unseen, cancel=cancel)
        if not config.prompting:
            found = self.segment(slices, cancel=cancel)
            return SlicePrediction(found.probabilities[sub_region.index], found.quality[sub_region.index])
        pixels = case.frame.boxes(boxes)
        given = torch.zeros(len(slices)) if heights is None else torch.from_numpy(np.float32(heights))
        prompts = Prompt(pixels, given, torch.full((len(slices),), stated))
        order = np.arange(len(slices))
        compute = partial(self._prompt_batch, case, sub_region.index, slices, prompts)
        done = list(self._in_batches(order, compute, cancel))
        if not done:
            return SlicePrediction(np.zeros((0, *case.frame.size), np.float32), np.zeros(0, np.float32))
        masks, qualities = (torch.cat(part).numpy() for part in zip(*done, strict=True))
        return SlicePrediction(masks, qualities)

    def _prompt_batch(
        self, case: _Kept, region: int, slices: np.ndarray, prompts: Prompt, order: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        rows = torch.arange(len(order), device=self._device)
        features = self._features(case, slices[order], rows, torch.full_like(rows, region))
        stored = [belief[region] for z in slices[order] if (belief := case.belief[z]) is not None]
        # Arrangements that look at no belief never read the zero.
        belief = torch.stack(stored).float() if len(stored) == len(order) else features.maps.new_zeros(1)
        with self._autocast():
            prompt = Prompt(*(part[torch.from_numpy(order)].to(self._device) for part in prompts))
            logits, quality = self._model.second_pass(features, prompt, belief)
        return case.frame.masks(logits).sigmoid().cpu(), quality.float().clamp(0, 1).cpu()

    @told_when_short
    @torch.inference_mode()
    def believe(self, probabilities: np.ndarray) -> None:
        """Take over another belief than the first pass's own; see `Predictor.believe`."""
        case = self._encoded()
        for z in range(len(case.belief)):
            likely = torch.from_numpy(np.asarray(probabilities[:, z], dtype=np.float32)).to(self._device)
            case.belief[z] = case.frame.cells(likely, self._model.mask_pixel).half()

    @told_when_short
    @torch.inference_mode()
    def look_ahead(self) -> bool:
        """Encode one batch of the slices that wait for a box, nearest to the tumour first; see `Predictor`."""
        case = self._encoded()
        waiting = np.array(case.features.waiting(), dtype=np.int64)
        if waiting.size == 0:
            return False
        worth = np.flatnonzero(case.worth)
        apart = np.abs(waiting[:, None] - (worth if worth.size else waiting[:1])).min(axis=1)
        for _ in self._keep(case, waiting[np.argsort(apart, kind="stable")[: self._batch]], None):
            pass
        return waiting.size > self._batch

    @told_when_short
    def attention(self) -> np.ndarray:
        """Return the modality weights, float16 (3, M, D, h, w); see `Predictor.attention`."""
        case = self._encoded()
        index = [MODALITIES.index(m) for m in case.modalities]
        rows = [row if asked else None for row, asked in zip(case.features, case.asked, strict=True)]
        known = next((row.alpha for row in rows if row is not None), None)
        if known is None:
            return np.zeros((len(SUB_REGIONS), len(index), len(case.features), 1, 1), np.float16)
        # Where nothing was asked, nothing was weighed.
        blank = torch.zeros_like(known)
        alpha = torch.stack([(blank if row is None else row.alpha)[0][:, index] for row in rows], dim=2)
        shape = alpha.shape[-2:]
        # The grid covers the padded image; the caller's covers the slice.
        height = -(-shape[0] * case.frame.scaled[0] // case.frame.padded[0])
        width = -(-shape[1] * case.frame.scaled[1] // case.frame.padded[1])
        return alpha[..., :height, :width].cpu().numpy()

    def release(self) -> None:
        """Forget the case and free its memory; the model stays loaded."""
        self._case = None
        give_back(self._device)

    def _encoded(self) -> _Kept:
        if self._case is None:
            raise SofaError("No case is encoded: run the first pass before refining.")
        return self._case

    def _autocast(self, device: torch.device | None = None) -> torch.autocast:
        kind = (device or self._device).type
        return torch.autocast(kind, self._precision, enabled=self._precision is not torch.float32)

    def _working(self, tensor: Tensor) -> Tensor:
        return tensor if self._precision is not torch.float32 else tensor.float()

    def _features(self, case: _Kept, slices: np.ndarray, rows: Tensor, regions: Tensor) -> RegionFeatures:
        return RegionFeatures.select(self._fused(case, slices), rows, regions)

    def _fused(self, case: _Kept, slices: np.ndarray) -> Fused:
        rows = [row for z in slices if (row := case.features[z]) is not None]
        return Fused(
            self._working(torch.cat([row.maps for row in rows])),
            torch.cat([row.alpha for row in rows]),
            tuple(self._working(torch.cat(levels)) for levels in zip(*(row.fine for row in rows), strict=True)),
        )

    def _in_batches(
        self, items: np.ndarray, compute: Callable[[np.ndarray], T], cancel: CancelToken | None
    ) -> Iterator[T]:
        """Yield `compute` of runs of `items`; the batch is halved, for good, where memory does not hold it."""
        done = 0
        while done < len(items):
            if cancel is not None:
                cancel.check()
            batch = items[done : done + self._batch]
            try:
                result = compute(batch)
            except RuntimeError as error:
                if len(batch) == 1 or not is_out_of_memory(error):
                    raise
                self._batch = len(batch) // 2
                give_back(self._device)
                continue
            yield result
            done += len(batch)


def prepare_for_inference(model: SofaModel) -> SofaModel:
    """Fold every batch normalisation into its convolution and choose layouts; answers stay the same to rounding."""
    model.eval().requires_grad_(False)
    parent: Any
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            fuse = getattr(child, "fuse", None)
            if fuse is not None and isinstance(getattr(child, "bn", None), nn.BatchNorm2d):
                setattr(parent, name, fuse())
        # PyTorch's fused attention falls back to a slower path on the CPU when it is given a bias.
        if hasattr(parent, "fused_attn"):
            parent.fused_attn = False
    return model.channels_last()


def _placed(model: SofaModel, device: torch.device, volume_device: torch.device) -> SofaModel:
    """Move a network to its device, the localiser to the one for volumes."""
    localiser, model.localiser = model.localiser, None
    model.to(device)
    model.localiser = None if localiser is None else localiser.to(volume_device)
    return model


def _row(fused: Fused, index: int) -> Fused:
    """Copy one slice out of a batch, so that keeping it does not keep the batch."""
    pick = slice(index, index + 1)
    return Fused(fused.maps[pick].clone(), fused.alpha[pick].clone(), tuple(x[pick].clone() for x in fused.fine))
