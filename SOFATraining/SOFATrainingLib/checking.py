"""Program: `python -m SOFATrainingLib.checking DATASET` says what is in a dataset and what is wrong with it.

It opens every truth, which takes long for many cases, so it runs beside Slicer. What it prints is JSON, one object a
line: {"found": N}, then {"checked": NAME} as it goes, then a {"case": ...} for every case, or {"error": SENTENCE}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sofa_engine.errors import SofaError
from sofa_training.cases import find_cases
from sofa_training.checks import Severity, check_cases


def main(dataset: Path) -> int:
    """Print what is found; return the exit code."""
    try:
        cases = find_cases(dataset)
        _say(found=len(cases))
        problems = check_cases(cases, progress=lambda name: _say(checked=name))
    except SofaError as error:
        _say(error=str(error))
        return 2
    for case in cases:
        mine = [problem for problem in problems if problem.case == case.name]
        _say(
            case=case.name,
            subject=case.subject,
            origin=case.origin,
            errors=[p.sentence for p in mine if p.severity is Severity.ERROR],
            warnings=[p.sentence for p in mine if p.severity is Severity.WARNING],
        )
    return 0


def _say(**content: object) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
