"""Small studies on disk, in every format that the engine reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from sofa_engine.geometry import Geometry
from sofa_engine.itk_images import to_itk
from sofa_engine.types import Modality

BRATS_NAMES = {Modality.T1: "t1", Modality.T1C: "t1ce", Modality.T2: "t2", Modality.FLAIR: "flair"}

#: 1 mm, axes pointing left, posterior, superior, as in BraTS.
LPS = np.array([[-1.0, 0, 0, 20.0], [0, -1.0, 0, 24.0], [0, 0, 1.0, -8.0], [0, 0, 0, 1.0]])


def head(shape: tuple[int, int, int] = (16, 48, 40), seed: int = 0) -> np.ndarray:
    """Return a skull-stripped brain, (D, H, W): an ellipsoid of textured tissue with an off-centre lesion, in zeros."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape)
    middle = (np.array(shape) - 1) / 2
    brain = sum(((g - m) / (0.42 * n)) ** 2 for g, m, n in zip(grid, middle, shape, strict=True)) <= 1
    lesion = sum(((g - 0.6 * n) / (0.12 * n)) ** 2 for g, n in zip(grid, shape, strict=True)) <= 1
    tissue = 300 + 4 * grid[1] + 2 * grid[2] + rng.normal(0, 20, shape) + 250 * lesion
    return np.where(brain, tissue, 0).round().astype(np.float32)


def geometry_for(shape: tuple[int, int, int], matrix: np.ndarray = LPS) -> Geometry:
    """Return a grid of this shape."""
    return Geometry.from_matrix(shape, matrix)


def write_volume(path: Path, array: np.ndarray, matrix: np.ndarray = LPS) -> Path:
    """Write (D, H, W) voxels in the format that the suffix names; int16 if whole numbers, else float32."""
    whole = np.array_equal(array, np.rint(array))
    array = array.astype(np.int16 if whole else np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(array.T, matrix), path)
    else:
        sitk.WriteImage(to_itk(array, geometry_for(array.shape, matrix)), str(path))
    return path


def write_dicomdir(path: Path) -> Path:
    """Write what lists the images of a disc: one image, whose icon has pixels."""

    def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        size = b"\0\0" + len(value).to_bytes(4, "little") if kind in {b"OB", b"OW", b"SQ"} else None
        tag = group.to_bytes(2, "little") + number.to_bytes(2, "little")
        return tag + kind + (len(value).to_bytes(2, "little") if size is None else size) + value

    def item(content: bytes) -> bytes:
        return b"\xfe\xff\x00\xe0" + len(content).to_bytes(4, "little") + content

    meta = element(2, 0x01, b"OB", b"\0\1") + element(2, 0x02, b"UI", b"1.2.840.10008.1.3.10")
    meta += element(2, 0x03, b"UI", b"1.2.3") + element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    meta += element(2, 0x12, b"UI", b"1.2.3.4")
    icon = element(0x28, 0x02, b"US", b"\1\0") + element(0x7FE0, 0x10, b"OW", bytes(64))
    record = element(4, 0x1430, b"CS", b"IMAGE ") + element(0x88, 0x200, b"SQ", item(icon))
    body = element(4, 0x1130, b"CS", b"DISC") + element(4, 0x1220, b"SQ", item(record))
    path.write_bytes(bytes(128) + b"DICM" + element(2, 0, b"UL", len(meta).to_bytes(4, "little")) + meta + body)
    return path


def write_dicom(
    folder: Path,
    array: np.ndarray,
    matrix: np.ndarray = LPS,
    *,
    description: str = "AX T1",
    uid: str = "1.2.826.0.1.3680043.8.498.1",
    skip: Iterable[int] = (),
    modality: str = "MR",
) -> Path:
    """Write (D, H, W) voxels as one DICOM file per slice, in shuffled file order; slices in `skip` are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    volume = to_itk(array.astype(np.int16), geometry_for(array.shape, matrix))
    direction = np.array(volume.GetDirection()).reshape(3, 3)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(array.shape[0]):
        if k in skip:
            continue
        plane = volume[:, :, k]
        tags = {
            "0008|0060": modality,
            "0008|103e": description,
            "0008|0018": f"{uid}.{k + 1}",
            "0020|000d": "1.2.826.0.1.3680043.8.498.9",
            "0020|000e": uid,
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{v:.10g}" for v in volume.TransformIndexToPhysicalPoint((0, 0, k))),
            "0020|0037": "\\".join(f"{v:.10g}" for v in (*direction[:, 0], *direction[:, 1])),
            "0018|0050": f"{volume.GetSpacing()[2]:.10g}",
        }
        for tag, value in tags.items():
            plane.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{(k * 7) % 101:03d}_{uid[-4:]}.dcm"))
        writer.Execute(plane)
    return folder
