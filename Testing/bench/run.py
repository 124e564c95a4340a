"""`make bench`: the plain way, ours and the floor, side by side in one run.

Prints a table, draws a picture, and keeps the figures as JSON under Testing/bench/results/ with the machine's
description. Ratios are what to compare between machines; the sample behind an extrapolated figure is named.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.picture import draw
from bench.table import show

RESULTS = Path(__file__).parent / "results"
#: LiteMedSAM's arrangement takes minutes a case without a GPU, so that some slices stand for all.
_SAMPLE = 8


def ask(work: str, **options: Any) -> Any:
    """Do one piece of work in a fresh process (see child.py) and return its answer."""
    begun = time.time()
    request = json.dumps({"work": work, **options})
    command = [sys.executable, str(Path(__file__).parent / "child.py"), request]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"{work} failed: see above.")
    answer = json.loads(done.stdout.splitlines()[-1])
    Console(stderr=True).print(f"[dim]{work} {options}: {time.time() - begun:.0f} s")
    return answer


def main(
    repeats: Annotated[int, typer.Option(help="Repeats behind every median.", min=1)] = 3,
    whole: Annotated[bool, typer.Option(help="LiteMedSAM's arrangement on all slices instead of a sample.")] = False,
    only: Annotated[str | None, typer.Option(help="Time this arrangement alone: compact or litemedsam.")] = None,
    train: Annotated[bool, typer.Option(help="Also time training steps.")] = True,
) -> None:
    """Time the engine against the plain way."""
    begun = time.monotonic()
    machine = ask("machine")
    gpu = machine["gpu"] is not None
    shipped = machine.pop("shipped")
    record: dict[str, Any] = {"machine": machine, "case": machine.pop("case"), "repeats": repeats, "rows": []}
    for name in dict.fromkeys([shipped, "litemedsam"]):
        if only in (None, name):
            sample = None if name == shipped or whole or gpu else _SAMPLE
            plain = ask("plain", arrangement=name, repeats=repeats)
            ours = ask("ours", arrangement=None if name == shipped else name, repeats=repeats, sample=sample)
            record["rows"].append({"arrangement": name, "plain": plain, "ours": ours})
    record["cold_start_s"] = [_cold_start() for _ in range(repeats)]
    record["growth"] = ask("growth", arrangement="compact", repeats=repeats)
    names = (["compact", "default"] if gpu else ["compact"]) if train else []
    record["training"] = [ask("training", configuration=name, steps=2 * repeats) for name in names]
    record["whole_run_s"] = time.monotonic() - begun
    RESULTS.mkdir(exist_ok=True)
    stem = time.strftime("%Y-%m-%d") + ("-gpu" if gpu else "-cpu")
    (RESULTS / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    show(record)
    draw(record, RESULTS / f"{stem}.png")
    Console().print(f"Kept: Testing/bench/results/{stem}.json and .png")


def _cold_start() -> float:
    begun = time.time()
    return float(ask("cold start")["done"] - begun)


if __name__ == "__main__":
    typer.run(main)
