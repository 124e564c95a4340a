"""A dataset, a checkpoint and a configuration so small that a whole training takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fakes import fake_case
from sofa_engine.geometry import Geometry
from sofa_engine.itk_images import to_itk
from sofa_engine.types import Modality
from sofa_engine.writing import write_labels

SUFFIXES = {Modality.T1: "t1", Modality.T1C: "t1ce", Modality.T2: "t2", Modality.FLAIR: "flair"}

CONFIGURATION = """
[data]
crops = [[48, 48]]
slices_per_case = 4
background = 0.0
[optimiser]
rate = 1e-3
[run]
batch = 4
precision = "fp32"
workers = 0
validate_every = 1
checkpoint_steps = 1
device = "cpu"
"""


def writeCase(dataset: Path, name: str, seed: int = 0, *, without: str = "") -> Path:
    """Write a synthetic patient of 16 x 48 x 48 voxels in BraTS's layout; `without` leaves a file out."""
    case, truth = fake_case(seed=seed)
    where = np.s_[14 + seed % 4 : 30 + seed % 4, 10:58, 4:52]
    labels = truth[where]
    geometry = Geometry.from_matrix(labels.shape, case.geometry.matrix)
    folder = dataset / name
    folder.mkdir(parents=True)
    for modality, suffix in SUFFIXES.items():
        if suffix != without:
            image = to_itk(np.ascontiguousarray(case.images[modality][where]), geometry)
            sitk.WriteImage(image, str(folder / f"{name}_{suffix}.nii.gz"))
    if without != "seg":
        write_labels(np.ascontiguousarray(labels), geometry, folder / f"{name}_seg.nii.gz")
    return folder


def writeDataset(folder: Path) -> Path:
    """Write two patients who can be trained on."""
    for number in range(2):
        writeCase(folder, f"Patient_{number}", number)
    return folder


def prepareDataset(dataset: Path, out: Path) -> Path:
    """Prepare the cases as `sofa prepare` does, in this process."""
    from sofa_training.cases import find_cases
    from sofa_training.prepare import prepare_cases

    prepare_cases(find_cases(dataset), out)
    return out


def writeStart(path: Path) -> Path:
    """Write the checkpoint of a network with a handful of channels and random weights."""
    from sofa_engine.model.checkpoint import save_checkpoint
    from sofa_engine.model.config import EncoderConfig, ModelConfig
    from sofa_engine.model.network import SofaModel

    encoder = EncoderConfig(
        embed_dims=(8, 16, 16, 16),
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 1, 1),
        window_sizes=(4, 4, 4, 4),
        stem_stride=4,
    )
    config = ModelConfig(arrangement="tiny", encoder=encoder, channels=32, decoder_mlp=32, decoder_heads=2)
    save_checkpoint(SofaModel(config), path, name="tiny", trained=False)
    return path


def writeConfiguration(path: Path, text: str = CONFIGURATION) -> Path:
    """Write the settings of a training that takes seconds."""
    path.write_text(text, encoding="utf-8")
    return path
