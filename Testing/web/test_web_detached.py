"""A visitor's header may name a file beside it for its voxels, and no other file of the server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from sofa_engine.errors import InputError
from sofa_web.allowed_folder import AllowedFolder
from sofa_web.detached import check_data_files

META = "ObjectType = Image\nNDims = 3\nDimSize = 8 8 8\nElementType = MET_UCHAR\n{}\n"
NRRD = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8 8 8\nencoding: raw\n{}\n\n"
#: MetaImage's reader takes the first 499 characters of a name.
CUT_OFF = f"../server/{'./' * 240}secret.raw/../../patient/voxels.raw"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is the visitor's, beside what is not."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "secret.raw").write_bytes(bytes(512))
    folder = tmp_path / "patient"
    folder.mkdir()
    (folder / "voxels.raw").write_bytes(bytes(512))
    (folder / "link.raw").symlink_to(tmp_path / "server" / "secret.raw")
    return folder


def write(folder: Path, name: str, form: str, line: str) -> Path:
    header = folder / name
    header.write_bytes(form.format(line).encode())
    return header


@pytest.mark.parametrize("place", ["{}/server/secret.raw", "../server/secret.raw", "link.raw", CUT_OFF])
@pytest.mark.parametrize(
    ("name", "form", "line"),
    [
        ("x_t1.mhd", META, "ElementDataFile = {}"),
        ("x_t1.MHA", META, "  ElementDataFile  :{}"),
        ("x_t1.mha", META, "ElementDataFile\0more = {}\nElementDataFile = LOCAL"),
        ("x_t1.mhd", META, "ElementDataFile = LIST\n{}"),
        ("x_t1.nhdr", NRRD, "data file: {}"),
        ("x_t1.NRRD", NRRD, "DataFile: {}"),
        ("x_t1.nrrd", NRRD, "content: one\rdata file: {}"),
        ("x_t1.nhdr", NRRD, "# a comment\rdata file: {}\rkinds: domain"),
        ("x_t1.nhdr", NRRD, "data file: LIST 2\n{}"),
    ],
)
def test_a_header_that_names_a_file_elsewhere_is_refused(folder, name, form, line, place):
    header = write(folder, name, form, line.format(place.format(folder.parent)))
    with pytest.raises(InputError, match="does not hold its voxels itself"):
        check_data_files(header, folder)


@pytest.mark.parametrize("said", ["slices%02d.raw 1 8 1", "-", "", "deeper/voxels.raw", "C:\\secret.raw"])
def test_a_header_that_names_no_single_file_beside_it_is_refused(folder, said):
    for name, form, key in (("x_t1.mhd", META, "ElementDataFile ="), ("x_t1.nhdr", NRRD, "data file:")):
        with pytest.raises(InputError, match="does not hold its voxels itself"):
            check_data_files(write(folder, name, form, f"{key} {said}"), folder)


@pytest.mark.parametrize("end", ["", "\r"])
@pytest.mark.parametrize(
    ("name", "form", "line"),
    [
        ("x_t1.mha", META, "ElementDataFile = LOCAL"),
        ("x_t1.mhd", META, "ElementDataFile = voxels.raw"),
        ("x_t1.nhdr", NRRD, "data file: ./voxels.raw"),
        ("x_t1.nrrd", NRRD, "kinds: domain domain domain"),
        ("x_t1.nhdr", NRRD, ""),
    ],
)
def test_voxels_in_the_header_or_beside_it_are_let_through(folder, name, form, line, end):
    check_data_files(write(folder, name, form, line + end), folder)


def test_what_programs_write_is_let_through_and_voxels_that_look_like_a_header_too(folder):
    image = sitk.GetImageFromArray(np.frombuffer(b"data file: /etc/passwd\n" * 512, np.uint8).reshape(8, 32, -1))
    for name in ("a.mha", "a.mhd", "a.nrrd", "a.nhdr"):
        for compressed in (False, True):
            sitk.WriteImage(image, str(folder / name), compressed)
            check_data_files(folder / name, folder)
    (folder / "empty.mhd").touch()
    check_data_files(folder / "empty.mhd", folder)


def test_a_case_of_the_offered_folder_may_not_name_files_outside_of_it(folder):
    write(folder, "x_t1.nhdr", NRRD, "data file: ../server/secret.raw")
    with pytest.raises(InputError, match=r"^x_t1.nhdr does not hold its voxels itself"):
        AllowedFolder(folder).case_folder("")
