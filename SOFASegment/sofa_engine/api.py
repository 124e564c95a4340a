"""What the faces talk to: one case being segmented, wherever the model runs.

`sofa_engine.session.SegmentationSession` computes in this process; `sofa_service.client.RemoteSession` computes in
the engine process. Faces and tests take either. Importing this module needs no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from sofa_engine.geometry import Geometry
from sofa_engine.progress import CancelToken, ProgressCallback
from sofa_engine.types import Box, LabelScheme, Modality, Patch, SliceConfidence, SubRegion

Boxes = Mapping[SubRegion, tuple[Box, ...]]


@dataclass(frozen=True)
class ModelInfo:
    """Which model answered, for reports and for the version handshake.

    Attributes:
        name: what people call the checkpoint.
        sha256: hash of the checkpoint's file, or of its tensors where there is no file.
        arrangement: name of the encoder's arrangement ("litemedsam", "compact", ...).
        mode: "paper" or "default" (see docs/architecture.md).
        device: "cpu", "cuda:0", "mps".
        trained: False for random weights, whose answers mean nothing.
    """

    name: str
    sha256: str
    arrangement: str
    mode: str
    device: str
    trained: bool


@runtime_checkable
class Session(Protocol):
    """One case: embeddings, probabilities, boxes and history. All verbs may raise `SofaError`.

    Lifecycle: `first_pass` once, then any number of `preview`, `refine`, `edit`, `undo`, `redo`; `close` at the end.
    Label values are those of `SubRegion.label` (0, 1, 2, 4).
    """

    @property
    def geometry(self) -> Geometry:
        """Grid of every array that the session takes and gives."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Sequences that are present."""

    @property
    def model(self) -> ModelInfo:
        """Which model answers."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user about this case (missing sequences, unusual intensities, ...)."""

    def first_pass(self, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> None:
        """Encode the case, segment it without a prompt and refine it with its own boxes (Algorithm 1).

        Starts from scratch: boxes, history and hand edits of before are dropped when it succeeds. A cancelled or
        failed pass leaves everything as it was.
        """

    def boxes(self) -> Boxes:
        """Return the current boxes of every sub-region; an empty tuple where a sub-region has none."""

    def first_boxes(self) -> Boxes:
        """Return the boxes that the first pass made, which a reset goes back to."""

    def lesion_boxes(self, sub_region: SubRegion) -> tuple[Box, ...]:
        """Return a box per connected lesion of the sub-region's current voxels, largest first.

        For the user who wants to steer lesions one by one: `refine(sub_region, lesion_boxes(sub_region))`.
        """

    def preview(
        self,
        sub_region: SubRegion,
        boxes: Sequence[Box],
        *,
        slices: Sequence[int],
        locked: Collection[SubRegion] = (),
        cancel: CancelToken | None = None,
    ) -> Iterator[Patch]:
        """Yield what `refine` would make of these slices (indices on axis 0), without changing any state."""

    def refine(
        self,
        sub_region: SubRegion,
        boxes: Sequence[Box],
        *,
        first_slice: int | None = None,
        locked: Collection[SubRegion] = (),
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[Patch]:
        """Replace the sub-region's boxes and segment it inside those that changed (eq. 5-6).

        Only boxes that differ from the current ones are computed; no boxes empties the sub-region. Voxels of the
        sub-region outside all of its edited boxes are given up. Sub-regions in `locked` keep every voxel they have.

        Yields:
            Patches, together covering the changed extent, the slice nearest to `first_slice` first. The state changes
            (as one step of undo) when the iterator is exhausted; closing it early or cancelling leaves all as before.
        """

    def edit(self, patch: Patch) -> None:
        """Take over labels that the user painted, as one step of undo.

        Voxels whose label differs from the session's are kept through later refinements, except inside a box that the
        user drags after painting.
        """

    def can_undo(self) -> bool:
        """Whether `undo` would change something."""

    def can_redo(self) -> bool:
        """Whether `redo` would change something."""

    def undo(self) -> Patch | None:
        """Take back the last refinement or edit, boxes and labels together; None if there is none."""

    def redo(self) -> Patch | None:
        """Repeat what was last undone; None if there is nothing."""

    def labels(self, scheme: LabelScheme = LabelScheme.BRATS2020) -> np.ndarray:
        """Return the label map, uint8 (D, H, W)."""

    def probabilities(self) -> np.ndarray:
        """Return the model's probability of each sub-region, float16 (3, D, H, W), order of `SUB_REGIONS`."""

    def confidence(self) -> np.ndarray:
        """Return how sure the model is of each voxel's label, float16 (D, H, W), 0 (a coin toss) to 1."""

    def uncertain_slices(self, count: int = 10) -> tuple[SliceConfidence, ...]:
        """Return the slices most worth a look, the least certain first."""

    def attention(self) -> Mapping[SubRegion, Mapping[Modality, float]]:
        """Return the mean modality attention (eq. 2) inside each sub-region; each sub-region's weights sum to 1.

        A sub-region without voxels is averaged over the brain.
        """

    def volumes_ml(self) -> Mapping[str, float]:
        """Return millilitres of NCR, ED, ET, WT and TC from the current label map."""

    def close(self) -> None:
        """Free the memory; every other verb fails afterwards."""


class LocalSession(Session, Protocol):
    """A session that computes in this process, and so can use the time in which nobody waits."""

    def look_ahead(self) -> bool:
        """Compute a little of what later boxes may ask for; return whether there is more of it.

        Answers stay the same, they only come sooner.
        """
