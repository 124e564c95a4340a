"""Throughput and memory of training: slices a second, the share of time that waits for data, the peak of memory.

Each configuration trains for a few steps in a process of its own, by the very loop of `sofa train`, on real cases where
they are there and on phantoms where not (a step costs the same: its crop is what counts). Prints a table and keeps the
figures as JSON under Testing/bench/results/. `make bench` runs it.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
REAL_CASES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "brats2021"
#: What is measured: a name, the shipped configuration, and what differs from it.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "compact, from scratch": ("compact", {}),
    "default, all weights": ("default", {}),
    "default, frozen encoder, cached": ("default", {"run.train": "decoder", "run.cached_variants": 1}),
    "paper": ("paper", {"data.slices_per_case": 64}),
}
#: Steps that are not counted: workers start, kernels are chosen, the cache is filled.
WARM_UP = 3


def prepare(folder: Path, count: int = 2) -> tuple[Path, str]:
    """Prepare the first real cases, or phantoms, and return the folder and what they are."""
    from sofa_training.cases import find_cases
    from sofa_training.phantoms import write_phantom
    from sofa_training.prepare import prepare_cases

    real = REAL_CASES.is_dir()
    if not real:
        for number in range(count):
            write_phantom(folder / "cases", f"phantom_{number}", number)
    cases = find_cases(REAL_CASES if real else folder / "cases")[:count]
    prepare_cases(cases, folder / "prepared")
    return folder / "prepared", f"{count} real BraTS cases" if real else f"{count} phantoms"


def measure(config: str, overrides: dict[str, Any], out: Path, steps: int) -> dict[str, Any]:
    """Train for some steps in this process and return what it took."""
    import torch

    from sofa_engine.runtime import tune_allocator
    from sofa_training.config import load_config
    from sofa_training.runlog import read_log
    from sofa_training.trainer import train

    tune_allocator()
    chosen = load_config(config, {"run.epochs": 1000, "run.checkpoint_steps": 0, **overrides})

    def stop_after(event: str, values: dict[str, Any]) -> None:
        if event == "step" and values["epoch"] * per_epoch[0] + values["iteration"] + 1 >= WARM_UP + steps:
            (out / "stop").touch()
        elif event == "start":
            per_epoch[0] = values["iterations_per_epoch"]

    per_epoch = [1]
    train(chosen, out, listener=stop_after)
    events = read_log(out)
    counted = [e for e in events if e["event"] == "step"][WARM_UP:]
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads",
        "precision": chosen.run.precision,
        "batch": chosen.run.batch,
        "crops": [list(crop) for crop in chosen.data.crops],
        "steps": len(counted),
        "slices_per_second": chosen.run.batch / statistics.median(e["seconds"] for e in counted),
        "loading_share": sum(e["loading"] * e["seconds"] for e in counted) / sum(e["seconds"] for e in counted),
        "peak_memory_gib": _peak_memory_gib(),
        "peak_gpu_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if cuda else None,
    }


def _peak_memory_gib() -> float | None:
    """Return the largest resident size of this process, None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main(
    kind: Annotated[list[str] | None, typer.Option(help=f"Among {', '.join(KINDS)}; all if not given.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps behind every figure.")] = 10,
) -> None:
    """Time the steps of a training."""
    record: dict[str, Any] = {"kinds": {}}
    table = Table("training", "device", "slices/s", "waiting for data", "peak memory", "peak GPU memory")
    with tempfile.TemporaryDirectory(prefix="sofa-bench-") as name:
        prepared, record["cases"] = prepare(Path(name))
        for number, title in enumerate(kind or KINDS):
            config, overrides = KINDS[title]
            given = {"data.prepared": str(prepared), **overrides}
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found = pool.submit(measure, config, given, Path(name) / f"run{number}", steps).result()
            record["kinds"][title] = found
            sizes = [found[key] for key in ("peak_memory_gib", "peak_gpu_memory_gib")]
            table.add_row(
                f"{title} ({found['precision']}, batch {found['batch']})",
                found["device"],
                f"{found['slices_per_second']:.2f}",
                f"{100 * found['loading_share']:.1f} %",
                *("" if size is None else f"{size:.2f} GiB" for size in sizes),
            )
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y-%m-%d')}-training.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    Console().print(f"On {record['cases']}. Kept: {path}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    typer.run(main)
