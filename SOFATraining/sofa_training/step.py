"""One training step's forward pass: both passes of Algorithm 1 and their losses."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sofa_engine.model.network import Fused, RegionFeatures, SofaModel
from sofa_engine.model.prior import Prompt
from sofa_engine.types import SUB_REGIONS
from sofa_training.boxes import own_boxes
from sofa_training.config import TrainingConfig
from sofa_training.dataset import Sample
from sofa_training.embeddings import EmbeddingCache, fuse_encoded
from sofa_training.losses import combine_losses, enlarge, mask_losses, union_loss


class StepResult(NamedTuple):
    """What a step yields.

    Attributes:
        loss: scalar to descend.
        first, second: scalars of the two passes for the log.
        dice: (3,) sum of the true Dice of the last pass per sub-region, over masks with truth.
        count: (3,) masks that entered `dice`.
    """

    loss: Tensor
    first: Tensor
    second: Tensor
    dice: Tensor
    count: Tensor


class TrainingStep(nn.Module):
    """The model with its losses as one module, which is what DistributedDataParallel wraps."""

    def __init__(self, model: SofaModel, config: TrainingConfig, cache: EmbeddingCache | None = None) -> None:
        """Wrap a model; `cache` serves a frozen encoder's output."""
        super().__init__()
        self.model = model
        self._config = config
        self._cache = cache
        if config.run.train == "decoder":
            model.image_encoder.requires_grad_(False)
        if model.localiser is not None:
            # It is trained apart (`sofa localiser`); here each of the two learns to do without the other.
            model.localiser.requires_grad_(False)

    def train(self, mode: bool = True) -> TrainingStep:
        """Set the mode; a frozen encoder and frozen statistics stay in evaluation mode."""
        super().train(mode)
        if mode and self._config.run.train == "decoder":
            self.model.image_encoder.eval()
        if mode and self._config.run.batch_norm == "frozen":
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, batch: Sample, weights: Tensor) -> StepResult:
        """Compute the losses of a batch; `weights` (3,) weighs the sub-regions."""
        config = self._config
        slices, regions = batch.chosen.nonzero(as_tuple=True)
        features = RegionFeatures.select(self._fused(batch), slices, regions)
        truth = batch.truth[slices, regions]
        count = len(slices)
        logits, quality = self.model.first_pass(features)
        losses = mask_losses(logits, truth, quality, config.loss.at)
        first = combine_losses(losses, regions, weights, count, config.loss)
        if config.loss.union:
            whole = (len(batch.chosen), len(SUB_REGIONS))
            first = first + config.loss.union * union_loss(logits.unflatten(0, whole), batch.truth, config.loss)
        second, dice_true, rows = first.new_zeros(()), losses.dice_true, torch.arange(count, device=regions.device)
        if config.model.prompting:
            prompt, valid = self._prompts(batch, slices, regions, logits)
            rows = valid.nonzero()[:, 0]
            if len(rows):
                asked = Prompt(*(part[rows] for part in prompt))
                logits2, quality2 = self.model.second_pass(features.rows(rows), asked, logits.detach()[rows])
                losses = mask_losses(logits2, truth[rows], quality2, config.loss.at)
                second = combine_losses(losses, regions[rows], weights, count, config.loss)
                dice_true = losses.dice_true
        share = config.loss.first_pass if config.model.prompting else 1.0
        there = truth[rows].flatten(1).amax(dim=1) > 0.5 if len(rows) else truth.new_zeros(0, dtype=torch.bool)
        dice = dice_true.new_zeros(len(SUB_REGIONS))
        seen = dice.clone()
        if len(rows):
            dice.index_add_(0, regions[rows], dice_true * there)
            seen.index_add_(0, regions[rows], there.float())
        return StepResult(share * first + second, first.detach(), second.detach(), dice, seen)

    def _fused(self, batch: Sample) -> Fused:
        images = batch.images
        if images.shape[2] == 1:
            images = images.expand(-1, -1, 3, -1, -1)
        if self._cache is not None:
            return fuse_encoded(self.model, self._cache.encoded(self.model, images, batch.key), batch.present)
        return self.model.encode(images, batch.present)

    def _prompts(self, batch: Sample, slices: Tensor, regions: Tensor, logits: Tensor) -> tuple[Prompt, Tensor]:
        """Return N prompts and bool (N,): those drawn, or the model's own where these are asked for and exist."""
        boxes, valid = batch.boxes[slices, regions], batch.box_valid[slices, regions]
        own, found = own_boxes(enlarge(logits.detach().float(), batch.truth.shape[-2:]), self._config.prompts.grow)
        use = batch.box_own[slices, regions] & found
        # A mask without truth and box is still prompted where the model finds something: it must learn to take it back.
        use |= ~valid & found
        heights = torch.where(use, 0.0, batch.box_heights[slices, regions])
        return Prompt(torch.where(use[:, None], own, boxes), heights, ~use), valid | use
