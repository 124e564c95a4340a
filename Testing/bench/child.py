"""One piece of `make bench` in a process of its own, so that its memory, start and allocator are its own.

    python Testing/bench/child.py '{"work": "ours", "arrangement": "compact", "repeats": 3}'

The last line on stdout is the answer as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def _plain(arrangement: str, repeats: int) -> object:
    from bench.plain import time_plain
    from sofa_engine.model import config

    return time_plain(getattr(config, arrangement)(), repeats)


def _ours(arrangement: str | None, repeats: int, sample: int | None) -> object:
    from bench.ours import time_ours
    from sofa_engine.model import config

    return time_ours(None if arrangement is None else getattr(config, arrangement)(), repeats, sample)


def _cold_start() -> object:
    from bench.ours import time_cold_start

    return time_cold_start()


def _growth(arrangement: str, repeats: int) -> object:
    from bench.ours import time_growth
    from sofa_engine.model import config

    return time_growth(getattr(config, arrangement)(), repeats)


def _training(configuration: str, steps: int) -> object:
    from bench.training import time_training

    return time_training(configuration, steps)


def _machine() -> object:
    from bench.cases import patient
    from bench.clock import machine
    from sofa_engine.loading import load_predictor

    return {**machine(), "case": patient().title, "shipped": load_predictor(device="cpu").info.arrangement}


WORK: dict[str, Callable[..., object]] = {
    "plain": _plain,
    "ours": _ours,
    "cold start": _cold_start,
    "growth": _growth,
    "training": _training,
    "machine": _machine,
}

if __name__ == "__main__":
    asked: dict[str, Any] = json.loads(sys.argv[1])
    print(json.dumps(WORK[asked.pop("work")](**asked)))
