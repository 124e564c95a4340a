"""Datasets that describe themselves in a `dataset.json`: nnU-Net (v1, v2) and the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sofa_engine.errors import InputError
from sofa_engine.naming import modality_of
from sofa_engine.types import MODALITIES, Modality, SubRegion
from sofa_training.cases import LabelValues, TrainingCase, VolumeFile
from sofa_training.subjects import subject_of

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")
_VOLUME_SUFFIX = re.compile(r"\.(nii|nii\.gz|nrrd|mha)$")
# Looked up in this order, so that "non-enhancing" is not taken for "enhancing".
_WORDS: tuple[tuple[tuple[str, ...], SubRegion | None], ...] = (
    (("background", "cavity"), None),
    (("necro", "ncr", "non-enhancing", "nonenhancing", "non enhancing", "netc"), SubRegion.NCR),
    (("edema", "oedema", "snfh"), SubRegion.ED),
    (("enhanc",), SubRegion.ET),
)
_ABBREVIATIONS: dict[str, SubRegion | None] = {"ed": SubRegion.ED, "et": SubRegion.ET, "rc": None}


def find_described_cases(root: Path) -> list[TrainingCase]:
    """Find the training cases that `root/dataset.json` describes.

    Raises:
        InputError: the description cannot be read, or its channels or labels are not the four sequences and the three
            sub-regions.
    """
    try:
        description = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        channels = {int(k): str(v) for k, v in (description.get("channel_names") or description["modality"]).items()}
        labels = _label_values(description["labels"])
    except InputError as error:
        raise InputError(f"{root / 'dataset.json'}: {error}") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{root / 'dataset.json'} does not describe channels and labels as nnU-Net does.") from error
    sequences = {index: modality_of(name) for index, name in channels.items()}
    strangers = [channels[index] for index, modality in sequences.items() if modality is None]
    if strangers:
        raise InputError(f"{root / 'dataset.json'} names channels that are none of T1, T1c, T2, FLAIR: {strangers}.")
    truths = _by_stem(root / "labelsTr")
    images = _by_stem(root / "imagesTr")
    found: dict[str, dict[Modality, VolumeFile]] = {}
    for stem, path in images.items():
        match = _CHANNEL.match(stem)
        if match is not None and int(match["channel"]) in sequences:
            found.setdefault(match["case"], {})[sequences[int(match["channel"])]] = VolumeFile(path)  # type: ignore[index]
        else:
            found[stem] = {m: VolumeFile(path, channel) for channel, m in sequences.items() if m is not None}
    layout = "nnU-Net" if "channel_names" in description else "Medical Segmentation Decathlon"
    return [
        TrainingCase(
            name=name,
            subject=subject_of(name, found),
            images={m: files[m] for m in MODALITIES if m in files},
            truth=truths.get(name),
            labels=labels,
            layout=layout,
        )
        for name, files in found.items()
    ]


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(
            f"{folder} is missing; a dataset with a dataset.json keeps its cases in imagesTr and labelsTr."
        )
    # macOS leaves "._" companions in the Decathlon's archives.
    files = [p for p in sorted(folder.iterdir()) if _VOLUME_SUFFIX.search(p.name) and not p.name.startswith(".")]
    return {_VOLUME_SUFFIX.sub("", path.name): path for path in files}


def _label_values(labels: Mapping[str, Any]) -> LabelValues:
    """Read nnU-Net's name -> value, the Decathlon's value -> name, or nnU-Net's nested regions name -> [values].

    Raises:
        InputError: a label or region means none of the sub-regions.
    """
    values: dict[int, SubRegion | None] = {0: None}
    if any(isinstance(value, list) for value in labels.values()):
        # A region of one value may be written without brackets.
        lists = {name.lower(): value if isinstance(value, list) else [value] for name, value in labels.items()}
        return values | _from_regions(lists)
    for key, value in labels.items():
        number, name = (int(key), str(value)) if str(key).isdigit() else (int(value), str(key))
        values[number] = _sub_region_of(name)
    return values


def _from_regions(regions: Mapping[str, list[int]]) -> dict[int, SubRegion | None]:
    def values_of(word: str, short: str) -> set[int]:
        found = next((values for name, values in regions.items() if word in name or name == short), None)
        if found is None:
            raise InputError(f"among the regions {', '.join(regions)} none is called {word} ({short.upper()}).")
        return {int(value) for value in found}

    whole, core, enhancing = values_of("whole", "wt"), values_of("core", "tc"), values_of("enhanc", "et")
    parts = ((SubRegion.ED, whole - core), (SubRegion.NCR, core - enhancing), (SubRegion.ET, enhancing))
    return {value: sub_region for sub_region, members in parts for value in members}


def _sub_region_of(name: str) -> SubRegion | None:
    lowered = name.lower()
    if lowered in _ABBREVIATIONS:
        return _ABBREVIATIONS[lowered]
    for words, sub_region in _WORDS:
        if any(word in lowered for word in words):
            return sub_region
    raise InputError(f"the label {name} is none of necrosis, oedema, enhancing tumour and cavity.")
