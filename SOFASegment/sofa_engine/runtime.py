"""Where and how the network runs: device, precision, allocator."""

from __future__ import annotations

import ctypes
import sys
import time
from functools import cache

import psutil
import torch

from sofa_engine.errors import InputError

#: mallopt parameters of glibc (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
#: Compute capability of the first NVIDIA GPUs that compute in bfloat16.
_AMPERE = (8, 0)
#: Devices that lack 3D layers, or had wrong ones: PyTorch's mps cannot average over 3D cells, and in some versions its
#: 3D convolution answers wrongly without a word (pytorch/pytorch issues 141287 and 197114).
_WITHOUT_VOLUMES = frozenset({"mps"})


def choose_device(name: str = "auto") -> torch.device:
    """Return the device for "auto", "cuda", "cuda:1", "mps" or "cpu".

    Raises:
        InputError: the device is unknown or not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"There is no device called '{name}'; use auto, cuda, mps or cpu.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"This machine has no usable CUDA device '{name}' (PyTorch {torch.__version__} sees "
            f"{torch.cuda.device_count()}); use --device cpu, or install a PyTorch built for your GPU."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("This machine has no usable Apple GPU (mps); use --device cpu.")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def choose_precision(device: torch.device) -> torch.dtype:
    """Return what autocast should compute in on this device.

    On a GPU bfloat16 where the hardware has it (NVIDIA's from Ampere on; earlier ones emulate it slowly), else float32:
    float16 ends at 65504, and nobody has measured whether the activations stay below that. On a CPU bfloat16 only where
    a small matrix product shows that it is faster: processors without AVX512-BF16 or AMX emulate it, many times slower
    than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= _AMPERE else torch.float32
    if device.type == "cpu" and _bfloat16_pays():
        return torch.bfloat16
    return torch.float32


def device_for_volumes(device: torch.device) -> torch.device:
    """Return where the 3D layers of a network on this device run: there too, but beside an Apple GPU on the CPU."""
    return torch.device("cpu") if device.type in _WITHOUT_VOLUMES else device


def choose_feature_bytes(device: torch.device) -> int:
    """Return how much memory a case's kept features may take, in bytes; what is more goes to a file.

    A quarter of a GPU's memory; elsewhere an eighth of the machine's, and 1 GiB at most, which holds a BraTS case in
    LiteMedSAM's arrangement.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory) // 4
    return min(int(psutil.virtual_memory().total) // 8, 2**30)


@cache
def _bfloat16_pays() -> bool:
    # PyTorch's macOS wheels come without oneDNN, whose operators are then not even there to be asked.
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False

    def seconds(dtype: torch.dtype) -> float:
        a = torch.ones(512, 512, dtype=dtype)
        a @ a
        start = time.perf_counter()
        a @ a
        return time.perf_counter() - start

    return min(seconds(torch.bfloat16) for _ in range(3)) < min(seconds(torch.float32) for _ in range(3))


def tune_allocator() -> bool:
    """Keep large temporaries in the heap instead of returning them to the kernel after every layer (glibc only).

    Every return costs page faults on the next layer: 1.8 times the encoder's time. It concerns the whole process, so
    only programs of our own call it (the command line, the engine process), never Slicer.

    Returns:
        Whether the C library took the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20))
        return all(libc.mallopt(parameter, value) == 1 for parameter, value in settings)
    except (OSError, AttributeError):  # another C library (musl)
        return False
