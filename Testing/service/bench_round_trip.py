"""Measure the engine process on a real case: a drag's round trip and its parts, bytes, memory, recovery.

Usage: python Testing/service/bench_round_trip.py CASE_FOLDER [CHECKPOINT]

Without a checkpoint the model is thresholds on brightness, so that what is left is the cost of the way itself.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil

_TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTING), str(_TESTING.parent / "SOFASegment")]

from sofa_engine.opening import open_case  # noqa: E402
from sofa_engine.types import Box, SubRegion  # noqa: E402
from sofa_engine.working_grid import to_working  # noqa: E402
from sofa_service.launcher import LocalEngine  # noqa: E402

_DRAGS = 20


def mib(process: psutil.Process) -> int:
    """Resident memory."""
    return process.memory_info().rss >> 20


def show(what: str, *values: object) -> None:
    """Print one line of the table."""
    print(f"{what:<34}", *values)


def drags(session, box: Box, count: int) -> list:
    """Drag the box's right face back and forth."""
    trips = []
    for i in range(count):
        upper = (*box.upper[:2], box.upper[2] + 1 + i % 4)
        middle = (box.lower[0] + box.upper[0]) // 2
        for _ in session.refine(SubRegion.ET, [Box(box.lower, upper)], first_slice=middle):
            pass
        trips.append(session.last_round_trip)
    return trips


def true_box(folder: Path) -> Box | None:
    """Return the enhancing tumour's box from the expert's labels, where the folder has them."""
    for path in folder.glob("*seg*.nii*"):
        return Box.of_mask(np.asarray(nib.load(path).dataobj).T == SubRegion.ET.label)
    return None


def table(title: str, trips: list) -> None:
    """Print medians and the slowest; a drag that changes nothing does not count."""
    trips = [trip for trip in trips if trip.first_ms is not None]
    parts = {
        "first patch": [t.first_ms for t in trips],
        "total": [t.total_ms for t in trips],
        "  transfer": [t.transfer_ms for t in trips],
        "  queue": [t.engine.queue_ms for t in trips],
        "  compute": [t.engine.compute_ms for t in trips],
        "  encode": [t.engine.encode_ms for t in trips],
    }
    print(f"\n{title}: median (slowest) of {len(trips)}")
    for name, values in parts.items():
        show(name, f"{statistics.median(values):8.1f} ({max(values):.1f}) ms")
    show("bytes sent, received", round(statistics.median(t.sent for t in trips)), max(t.received for t in trips))


def main(folder: Path, weights: Path | None) -> None:
    """Run all measurements."""
    me = psutil.Process()
    case = to_working(open_case(folder))
    raw = sum(image.nbytes for image in case.images.values())
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_TESTING), str(_TESTING / "service")])
    factory = "service_fakes:open_quick" if weights is None else None
    start = time.perf_counter()
    with LocalEngine(device="cpu", weights=weights, factory=factory) as engine:
        show("engine start", f"{time.perf_counter() - start:.1f} s")
        client = engine.client()
        before, start = mib(me), time.perf_counter()
        session = client.open(case)
        show("open (pack, send, unpack)", f"{time.perf_counter() - start:.2f} s")
        show("case raw, on the wire", raw, session.upload_bytes)
        show("kept by the client", f"{session.upload_bytes / 2**20:.1f} MiB; process {before} -> {mib(me)} MiB")
        start = time.perf_counter()
        session.first_pass()
        show("first pass", f"{time.perf_counter() - start:.1f} s")
        box = true_box(folder) or session.boxes()[SubRegion.ET][0]
        show("box (z, y, x)", box.shape)
        table("one clinician drags", drags(session, box, _DRAGS))
        start = time.perf_counter()
        labels = session.labels()
        show("whole label map", f"{(time.perf_counter() - start) * 1e3:.0f} ms")

        other = client.open(case)
        starting = threading.Thread(target=other.first_pass)
        starting.start()
        time.sleep(0.2)
        table("while another's first pass runs", drags(session, box, 5))
        starting.join()
        twice: dict[int, list] = {}
        threads = [
            threading.Thread(target=lambda n=n, s=s: twice.update({n: drags(s, box, _DRAGS // 2)}))
            for n, s in enumerate((session, other))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        table("two clinicians drag at once", twice[0] + twice[1])
        labels = session.labels()
        show("engine's memory", f"{client.status().process_mb} MiB")
        show("client's memory, torch imported", f"{mib(me)} MiB, {'torch' in sys.modules}")

        print()
        os.kill(engine.pid, signal.SIGKILL)
        start = time.perf_counter()
        same = bool((session.labels() == labels).all())
        show("kill -9 to the same labels again", f"{time.perf_counter() - start:.1f} s, identical: {same}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
