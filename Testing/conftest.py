"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests run side by side (pytest-xdist); every worker with threads of its own for each core would only wait for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_REAL_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real MRI beside the repository; where it is absent, tests that need it are skipped and say so."""
    if not (_REAL_DATA / "brats2021").is_dir():
        pytest.skip(f"real MRI is not on this machine (looked for {_REAL_DATA.name}/brats2021 beside the repository)")
    return _REAL_DATA


@pytest.fixture(scope="session")
def brats_case(real_data: Path) -> Path:
    """Folder of one real glioma with an expert mask (57 ml whole tumour, all three sub-regions present)."""
    return real_data / "brats2021" / "BraTS2021_00000"
