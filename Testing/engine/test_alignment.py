from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from sofa_engine.alignment import align, rigid_transform
from sofa_engine.errors import InputError
from sofa_engine.itk_images import to_itk
from sofa_engine.opening import open_case
from sofa_engine.progress import Progress
from sofa_engine.reading import Volume
from sofa_engine.types import MODALITIES, Modality
from studies import LPS, geometry_for, head, write_volume


def volume(array: np.ndarray, matrix: np.ndarray = LPS, source: str = "scan.nii.gz") -> Volume:
    return Volume(array.astype(np.float32), geometry_for(array.shape, matrix), source)


def smooth_head(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], shift_mm=(0.0, 0.0, 0.0)
) -> np.ndarray:
    """Sample one brain, defined in mm from the middle of the grid, on any grid."""
    axes = [(np.arange(n) - (n - 1) / 2) * s - d for n, s, d in zip(shape, spacing, shift_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    radius = (z / 22) ** 2 + (y / 30) ** 2 + (x / 25) ** 2
    tissue = 300 + 4 * y + 90 * np.sin(x / 6) * np.cos(z / 7) + 200 * np.exp(-((x - 9) ** 2 + y**2 + z**2) / 60)
    return np.where(radius <= 1, tissue, 0).astype(np.float32)


def centred(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> np.ndarray:
    """Return the affine of an LPS grid whose middle is the scanner's origin."""
    z, y, x = spacing
    matrix = np.diag([-x, -y, z, 1.0])
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return matrix


def test_volumes_on_one_grid_are_taken_as_they_are(write_case):
    case = open_case(write_case())
    for number, modality in enumerate(MODALITIES):
        np.testing.assert_array_equal(case.images[modality], head(seed=number))
    assert case.name == "patient"
    assert case.warnings == ()
    assert case.sources[Modality.T1C].endswith("P1_t1ce.nii.gz")


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (MODALITIES, Modality.T1C),
        ((Modality.T1, Modality.T2, Modality.FLAIR), Modality.FLAIR),
        ((Modality.T1, Modality.T2), Modality.T2),
        ((Modality.T1,), Modality.T1),
    ],
)
def test_the_reference_is_t1c_or_the_next_best(present, expected):
    grids = {m: LPS @ np.diag([1, 1, 1 + 0.01 * n, 1]) for n, m in enumerate(MODALITIES)}
    case = align({m: volume(head(), grids[m]) for m in present})
    np.testing.assert_array_equal(case.geometry.matrix, grids[expected])


def test_a_reference_that_was_asked_for_is_used():
    case = align(
        {Modality.T1C: volume(head()), Modality.T2: volume(head(), LPS @ np.diag([1, 1, 1.05, 1]))},
        reference=Modality.T2,
    )
    np.testing.assert_array_equal(case.geometry.matrix, LPS @ np.diag([1, 1, 1.05, 1]))


def test_a_reference_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="The reference T2 is not among the sequences"):
        align({Modality.T1: volume(head())}, reference=Modality.T2)


def test_no_sequence_at_all_is_refused():
    with pytest.raises(InputError, match="No sequence was given"):
        align({})


def test_a_sequence_on_another_grid_lands_where_it_belongs():
    fine, coarse = (48, 72, 60), (24, 90, 75)
    fine_mm, coarse_mm = (1.0, 1.0, 1.0), (2.0, 0.8, 0.8)
    case = align(
        {
            Modality.T1C: volume(smooth_head(fine, fine_mm), centred(fine, fine_mm)),
            Modality.T2: volume(smooth_head(coarse, coarse_mm), centred(coarse, coarse_mm)),
        }
    )
    truth = smooth_head(fine, fine_mm)
    inner = (truth > 0) & (case.images[Modality.T2] > 0)
    assert inner.sum() > 0.95 * (truth > 0).sum()
    assert np.median(np.abs(case.images[Modality.T2][inner] - truth[inner])) < 5  # of 300


def test_axes_in_another_order_and_direction_change_nothing(write_case, tmp_path):
    folder = write_case([Modality.T1C])
    flipped = LPS @ np.array([[0, -1, 0, 39], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    turned = np.ascontiguousarray(head(seed=0).transpose(0, 2, 1)[:, ::-1])
    write_volume(folder / "P1_flair.nii.gz", turned, flipped)
    case = open_case(folder)
    np.testing.assert_allclose(case.images[Modality.FLAIR], case.images[Modality.T1C], atol=1e-3)


def test_a_background_that_is_not_zero_fills_what_a_sequence_does_not_cover():
    dark = np.where(head() > 0, head(), -1000)
    case = align({Modality.T1C: volume(head()), Modality.T1: volume(dark[:, 4:], LPS @ _shift(y=4))})
    assert set(np.unique(case.images[Modality.T1][:, :4])) == {-1000.0}


def _shift(x: float = 0, y: float = 0, z: float = 0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def test_mismatched_patients_without_overlap_are_refused_naming_both():
    far = LPS @ _shift(x=500)
    with pytest.raises(InputError, match=r"T2 \(b\.nii\) and T1c \(a\.nii\) do not overlap in space; they look"):
        align({Modality.T1C: volume(head(), LPS, "a.nii"), Modality.T2: volume(head(), far, "b.nii")})


def test_brains_that_lie_apart_in_overlapping_volumes_are_refused():
    left, right = np.zeros((8, 24, 60)), np.zeros((8, 24, 60))
    left[2:6, 5:20, 5:20] = head()[6:10, 15:30, 10:25]
    right[2:6, 5:20, 40:55] = left[2:6, 5:20, 5:20]
    with pytest.raises(InputError, match="do not overlap in space"):
        align({Modality.T1C: volume(left), Modality.T2: volume(right, LPS @ _shift(x=0.5))})


def test_a_sequence_that_covers_only_part_of_the_brain_is_warned_about():
    case = align({Modality.T1C: volume(head()), Modality.T2: volume(head()[:8])})
    assert len(case.warnings) == 1
    assert "T2 covers only 50% of the T1c" in case.warnings[0]


def test_brains_that_hardly_match_are_warned_about():
    case = align({Modality.T1C: volume(head()), Modality.T2: volume(head(), LPS @ _shift(x=9))})
    assert "T2" in case.warnings[0]
    shape, mm = (48, 72, 90), (1.0, 1.0, 1.0)
    moved = volume(smooth_head(shape, mm, (0, 0, 12)), centred(shape, mm) @ _shift(x=0.01))
    case = align({Modality.T1C: volume(smooth_head(shape, mm), centred(shape, mm)), Modality.T2: moved})
    assert "check that both are of the same patient, or have them registered" in case.warnings[0]


def test_progress_never_goes_back(write_case):
    steps: list[Progress] = []
    open_case(write_case(), progress=steps.append)
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert steps[0].stage == "Reading T1"


def test_registering_undoes_a_known_motion_and_does_so_the_same_way_twice():
    shape, mm = (52, 76, 64), (1.0, 1.0, 1.0)
    matrix = centred(shape, mm)
    fixed = volume(smooth_head(shape, mm), matrix)
    motion = sitk.Euler3DTransform((0, 0, 0), 0.03, -0.05, 0.12, (5.0, -4.0, 3.0))
    image = to_itk(fixed.array, fixed.geometry)
    moved = sitk.GetArrayFromImage(sitk.Resample(image, motion, sitk.sitkLinear))
    moving = volume(1000 - moved * (moved > 0) - 1000 * (moved == 0), matrix)  # another contrast
    found = rigid_transform(fixed, moving)
    grid = np.array([(x, y, z) for x in (-20, 0, 20) for y in (-25, 0, 25) for z in (-18, 0, 18)], dtype=float)
    back = np.array([motion.TransformPoint(found.TransformPoint(p)) for p in grid.tolist()])
    assert np.linalg.norm(back - grid, axis=1).max() < 1.0  # mm; the motion was up to 12
    again = rigid_transform(fixed, moving)
    assert found.GetParameters() == again.GetParameters()


def test_registering_recovers_a_patient_who_moved_between_sequences():
    shape, mm = (48, 72, 90), (1.0, 1.0, 1.0)
    fixed = volume(smooth_head(shape, mm), centred(shape, mm))
    moved = volume(smooth_head(shape, mm, (2, -3, 6)), centred(shape, mm))
    case = align({Modality.T1C: fixed, Modality.T2: moved}, register=True)
    inside, moved_back = fixed.array > 0, case.images[Modality.T2] > 0
    assert 2 * np.count_nonzero(inside & moved_back) > 0.95 * (inside.sum() + moved_back.sum())
    assert case.warnings == ()


def test_four_native_grids_of_a_real_patient_come_onto_the_t1c_grid(real_data):
    folder = real_data / "other" / "native_TCGA-DU-7294"
    case = open_case(folder)
    assert case.geometry.shape == (68, 512, 512)
    reference = case.images[Modality.T1C] > 0
    for image in case.images.values():
        both = np.count_nonzero(reference & (image > 0))
        assert 2 * both / (np.count_nonzero(reference) + np.count_nonzero(image)) > 0.93
    assert case.warnings == ()
