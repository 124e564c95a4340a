"""Segment a case on an engine elsewhere, and correct it with a box.

Usage: python remote_session.py https://gpu.clinic.example:8484 CASE_FOLDER OUT.nii.gz   (token in SOFA_TOKEN)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sofa_engine.opening import open_case
from sofa_engine.types import SubRegion
from sofa_engine.working_grid import WorkingGrid, labels_to_reference, to_working
from sofa_engine.writing import write_labels
from sofa_service.client import EngineClient


def main(url: str, folder: Path, output: Path) -> None:
    """Open, first pass, one refinement, save."""
    case = open_case(folder)
    with EngineClient(url, os.environ["SOFA_TOKEN"]) as engine:
        session = engine.open(to_working(case), notify=print)
        session.first_pass(progress=lambda step: print(f"{step.fraction:4.0%} {step.stage}"))
        print("millilitres:", session.volumes_ml())

        boxes = session.boxes()[SubRegion.ET]
        if boxes:
            wider = boxes[0].grown((0, 4, 4), session.geometry.shape)
            for patch in session.refine(SubRegion.ET, [wider, *boxes[1:]]):
                print("new labels in slices", patch.extent.lower[0], "to", patch.extent.upper[0] - 1)
            print("where the time went:", session.last_round_trip)

        labels = labels_to_reference(session.labels(), WorkingGrid.of(case.geometry))
        write_labels(labels, case, output)
        session.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
