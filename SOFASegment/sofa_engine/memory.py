"""What PyTorch says of memory that is short, which differs by device, in one sentence for a person."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from sofa_engine.errors import OutOfMemoryError

P = ParamSpec("P")
R = TypeVar("R")

#: Said by a plain RuntimeError: by the CPU's allocator,
_ON_CPU = "DefaultCPUAllocator"
#: and by an Apple GPU, or by CUDA and its libraries where other programs have filled the card.
_ON_GPU = (
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of PyTorch means that a device's memory is full."""
    return _ON_CPU in str(error) or is_out_of_gpu_memory(error)


def is_out_of_gpu_memory(error: RuntimeError) -> bool:
    """Whether an error of PyTorch means that a graphics card's memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _ON_GPU)


def told_when_short(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that it raises `OutOfMemoryError` where PyTorch runs out of memory in it."""

    @wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if _ON_CPU in str(error):
                sentence = "There is not enough memory for this case; close other programs or use a smaller volume."
            else:
                sentence = (
                    "The GPU's memory does not hold this case; close other programs that use it, or choose the CPU as "
                    "device."
                )
            raise OutOfMemoryError(sentence) from error

    return told


def give_back(device: torch.device) -> None:
    """Return to the system what PyTorch keeps of a device's memory for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
