"""Running the `sofa` command and looking at what it left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from sofa_cli import main


def process(*words: object) -> subprocess.Popen:
    """Start `sofa` as a process of its own."""
    # A child inherits an ignored Ctrl-C, which is what a shell gives to tests that run in its background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    here = Path(main.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-m", "sofa_cli", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def refused(result, *sentence: str) -> str:
    """Check that a run ended with exit code 2 and one sentence on stderr, and return the sentence."""
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for words in sentence:
        assert words in errors[0]
    assert errors[0].endswith(".")
    return errors[0]


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
