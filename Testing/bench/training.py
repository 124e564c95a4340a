"""How fast this machine trains: slices a second and the memory of a step, by the trainer itself."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from bench.cases import REAL_CASE
from bench.clock import peak_memory_gib
from sofa_engine.runtime import choose_device, choose_precision, tune_allocator
from sofa_training.cases import TrainingCase, find_cases
from sofa_training.config import load_config
from sofa_training.phantoms import write_phantom
from sofa_training.prepare import prepare_cases
from sofa_training.trainer import train

_PRECISIONS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def time_training(name: str, steps: int) -> dict[str, object]:
    """Train the shipped configuration `name` for some steps; the first one does not count."""
    tune_allocator()
    device = choose_device()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare_cases(_cases(root / "phantoms"), root / "prepared")
        shipped = load_config(name)
        crop, batch = shipped.data.crops[0], shipped.run.batch
        precision = _PRECISIONS[choose_precision(device)]
        config = load_config(
            name,
            {
                "data.prepared": str(root / "prepared"),
                "data.crops": [list(crop)],
                "data.slices_per_case": batch * (steps + 1),
                "run.epochs": 1,
                "run.precision": precision,
                "run.device": str(device),
            },
        )
        told: list[dict[str, Any]] = []
        train(config, root / "run", listener=lambda event, values: told.append(values) if event == "step" else None)
    seconds = [step["seconds"] for step in told[1:]]
    return {
        "configuration": name,
        "batch": batch,
        "crop": list(crop),
        "precision": precision,
        "seconds": seconds,
        "slices_per_second": batch / statistics.median(seconds),
        "waiting_for_data": statistics.median(step["loading"] for step in told[1:]),
        "peak_gib": peak_memory_gib(device),
    }


def _cases(folder: Path) -> list[TrainingCase]:
    """Return the real case, or a phantom where it is absent."""
    if REAL_CASE.is_dir():
        return [case for case in find_cases(REAL_CASE.parent) if case.name == REAL_CASE.name]
    write_phantom(folder, "phantom", 0)
    return list(find_cases(folder))
