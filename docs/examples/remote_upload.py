"""Pack a case folder into the message that `POST /v1/sessions` takes, for use with curl (see remote_curl.sh).

Usage: python remote_upload.py CASE_FOLDER case.sofa
"""

from __future__ import annotations

import sys
from pathlib import Path

from sofa_engine.opening import open_case
from sofa_engine.working_grid import to_working
from sofa_service.framing import encode
from sofa_service.protocol import CaseHeader


def main(folder: Path, output: Path) -> None:
    """Write geometry and compressed voxels; neither names nor paths."""
    case = to_working(open_case(folder))
    header = CaseHeader(geometry=case.geometry).model_dump_json()
    output.write_bytes(encode(header, {modality.value: case.images[modality] for modality in case.modalities}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
