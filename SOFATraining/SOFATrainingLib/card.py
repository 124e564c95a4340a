"""What a trained checkpoint says of itself: data, epochs, metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sofa_engine.errors import WeightsError

BEST, LAST, CARD = "best.safetensors", "last.safetensors", "card.json"
_METADATA_KEY = "sofa"


@dataclass(frozen=True)
class Description:
    """The block of metadata in a checkpoint of SOFA.

    Attributes:
        name: what people call it.
        config: the network's arrangement, as `sofa_engine.model.config.ModelConfig` has it.
        notes: free facts.
    """

    name: str
    config: Mapping[str, Any]
    notes: Mapping[str, Any]


@dataclass(frozen=True)
class ResultCard:
    """A finished checkpoint for whoever decides whether to use it.

    Attributes:
        path: the checkpoint.
        name: of the run.
        epochs: that were completed.
        trainingCases, validationCases: how many there were.
        seenCases: validation cases that the start was trained on, whose Dice says nothing about new patients.
        dice: validation Dice per region, nothing of the truth used; empty without validation cases.
        device: where it was trained.
        start: what it began with.
        dataset: where the cases came from.
    """

    path: Path
    name: str
    epochs: int
    trainingCases: int
    validationCases: int
    dice: Mapping[str, float]
    device: str
    start: str = ""
    dataset: str = ""
    seenCases: int = 0


def describe(path: Path) -> Description:
    """Read what a safetensors file of SOFA says of itself, its tensors left out.

    Raises:
        WeightsError: the file is missing, damaged, or of another program.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            block = json.loads((file.metadata() or {})[_METADATA_KEY])
        return Description(block["name"], block["config"], block["notes"])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} is no checkpoint of SOFA or is damaged; choose another one.") from error


def resultOf(folder: Path) -> ResultCard | None:
    """Return the card of a run's result: the best checkpoint, else the last one, None where there is neither."""
    path = next((folder / name for name in (BEST, LAST) if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        found = describe(path)
    except WeightsError:
        return None
    notes = found.notes
    about = readAbout(folder)
    return ResultCard(
        path=path,
        name=found.name,
        epochs=int(notes.get("epochs", 0)),
        trainingCases=int(notes.get("training_cases", 0)),
        validationCases=int(notes.get("validation_cases", 0)),
        dice={name: float(value) for name, value in notes.get("validation_dice", {}).items()},
        device=str(notes.get("device", "")),
        start=str(about.get("start", "")),
        dataset=str(about.get("dataset", "")),
        seenCases=int(notes.get("validation_cases_seen", 0)),
    )


def writeAbout(folder: Path, content: Mapping[str, Any]) -> None:
    """Leave beside a run what the run itself does not know: the dataset, the cases on either side, the start."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def readAbout(folder: Path) -> Mapping[str, Any]:
    """Return what `writeAbout` left; empty where there is nothing."""
    try:
        content = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
