"""How a training can fail in ways that other settings mend, and which settings these are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sofa_engine.errors import SofaError
from sofa_engine.memory import is_out_of_gpu_memory
from sofa_training.config import TrainingConfig


class TrainingFailedError(SofaError):
    """A failure that would come again if the run were resumed as it is.

    Attributes:
        remedy: settings to resume with, by dotted key; empty where none helps.
    """

    def __init__(self, sentence: str, remedy: Mapping[str, Any]) -> None:
        """Say what happened; where there is a remedy, the sentence ends with how to use it."""
        settings = " ".join(f"--set {key}={value}" for key, value in remedy.items())
        super().__init__(f"{sentence} with {settings}." if remedy else f"{sentence}.")
        self.remedy = dict(remedy)


def lost_number(what: str, config: TrainingConfig) -> TrainingFailedError:
    """Return the failure of a loss or gradient that is no number any more.

    Args:
        what: how it happened, the beginning of a sentence.
        config: of the run.
    """
    # The narrow range of fp16 is a likelier culprit than the rate.
    half = config.run.precision == "fp16"
    return TrainingFailedError(
        f"{what}; the run stopped and its last good checkpoint is kept. Lower optimiser.rate, or use precision bf16 "
        "or fp32, and resume",
        {"run.precision": "fp32"} if half else {"optimiser.rate": config.optimiser.rate / 2},
    )


@contextmanager
def memory_said(config: TrainingConfig, world: int) -> Iterator[None]:
    """Turn a graphics card's lack of memory into a sentence.

    Args:
        config: of the run.
        world: processes that share `run.batch`.

    Raises:
        TrainingFailedError: the card ran out of memory.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_gpu_memory(error):
            raise
        batch = config.run.batch
        smaller = next((n for n in range(batch // 2, 0, -1) if batch % n == 0 and n % world == 0), None)
        if smaller is None:
            raise TrainingFailedError(
                f"The graphics card ran out of memory although run.batch is only {batch}; close other programs that "
                "use the card, or start a run in another folder with smaller data.crops or with run.device cpu",
                {},
            ) from error
        raise TrainingFailedError(
            f"The graphics card ran out of memory with run.batch {batch}; close other programs that use the card, or "
            "lower run.batch and resume",
            {"run.batch": smaller},
        ) from error
