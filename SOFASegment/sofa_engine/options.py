"""What a session does where the paper leaves a choice; stored with every result."""

from __future__ import annotations

from dataclasses import dataclass

from sofa_engine.errors import InputError


@dataclass(frozen=True)
class SessionOptions:
    """Choices of one session.

    Attributes:
        mode: "default" (what serves clinicians best) or "paper" (the letter of the method).
        tau: a voxel belongs to a sub-region where its probability exceeds this.
        clean_mm3: connected components of the first pass smaller than this make no box (100 voxels of 1 mm, as
            LiteMedSAM's own preparation drops them).
        grow_px: how far the per-slice boxes of eq. 4 and the tight second prompts are grown, in pixels.
        anatomy: whether what is known of gliomas in general settles what three one-vs-all answers leave open
            (`sofa_engine.anatomy`), and a core that a person boxed comes before oedema.
        tight_prompt: whether each slice of an edited box is prompted a second time with the tight box of its first
            answer. A slice whose first answer is empty stays empty either way.
        lesion_apart_mm: parts of a sub-region further apart than this are lesions of their own.
        lesion_mm3: lesions smaller than this get no box of their own.
        batch_slices: slices per batch in every pass; the first batch of a refinement is one slice.
        history_bytes: memory that undo may use, compressed.
    """

    mode: str = "default"
    tau: float = 0.5
    clean_mm3: float = 100.0
    grow_px: int = 3
    anatomy: bool = True
    tight_prompt: bool = True
    lesion_apart_mm: float = 5.0
    lesion_mm3: float = 30.0
    batch_slices: int = 8
    history_bytes: int = 128 * 2**20

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            InputError: a value is out of its range.
        """
        if self.mode not in ("default", "paper"):
            raise InputError(f"The mode must be 'default' or 'paper', not '{self.mode}'.")
        if not 0 < self.tau < 1:
            raise InputError(f"The threshold tau must lie between 0 and 1, not at {self.tau}.")
        if self.batch_slices < 1 or self.grow_px < 0:
            raise InputError(
                "A batch needs at least one slice, and boxes cannot be grown by a negative number of pixels."
            )

    @classmethod
    def of_mode(cls, mode: str) -> SessionOptions:
        """Return the settled choices of a mode.

        "paper" takes eq. 4 by its letter: the tight box of the uncleaned mask, one prompt per slice, and
        no knowledge but the network's.
        """
        if mode == "paper":
            return cls(mode=mode, clean_mm3=0.0, grow_px=0, anatomy=False, tight_prompt=False)
        return cls(mode=mode)
