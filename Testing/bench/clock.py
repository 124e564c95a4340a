"""Times, peaks and the machine they were taken on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one piece of work over several repeats."""

    repeats: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median, in seconds."""
        return statistics.median(self.repeats)


def timed(work: Callable[[], object], repeats: int, *, warm_up: int = 1) -> Timing:
    """Time `work`, after `warm_up` runs that do not count."""
    for _ in range(warm_up):
        work()
    seconds = []
    for _ in range(repeats):
        synchronise()
        start = time.perf_counter()
        work()
        synchronise()
        seconds.append(time.perf_counter() - start)
    return Timing(tuple(seconds))


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the best rate of a square matrix product, in floating-point operations a second."""
    size = 8192 if device.type == "cuda" else 2048
    a = torch.randn(size, size, device=device).to(dtype)
    timing = timed(lambda: a @ a, repeats=5, warm_up=2)
    return 2 * size**3 / min(timing.repeats)


def peak_memory_gib(device: torch.device) -> float:
    """Return the most memory that this process has had: the GPU's where it computes there, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(text for text in status.read_text(encoding="utf-8").splitlines() if text.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return float(psutil.Process().memory_info().rss) / 2**30


def machine() -> dict[str, object]:
    """Describe the machine for the record."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        named = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        model = named[0] if named else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bfloat16_matmul_supported": bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    }
