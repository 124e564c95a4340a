from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import ndimage

from sofa_engine.errors import InputError
from sofa_engine.normalise import intensity_warnings, normalise_case
from sofa_engine.synthetic import synthetic_case
from sofa_engine.types import MODALITIES, Modality
from sofa_engine.working_grid import to_working


@pytest.fixture(scope="module")
def patient():
    pytest.importorskip("nilearn")
    return synthetic_case(seed=3)


def test_it_looks_like_a_brats_case_to_everything_else(patient):
    case, labels = patient
    assert case.modalities == MODALITIES
    assert case.geometry.shape == labels.shape == (155, 240, 240)
    assert to_working(case) is case
    assert intensity_warnings(case) == ()
    images, brain = normalise_case(case)
    assert 1300 < brain.sum() * case.geometry.voxel_ml < 2100
    assert images.max() == 255
    assert all(image.dtype == np.float32 and (image == np.rint(image)).all() for image in case.images.values())


def test_the_tumour_has_all_three_sub_regions_of_clinical_size_inside_the_brain(patient):
    case, labels = patient
    millilitres = {value: np.count_nonzero(labels == value) / 1000 for value in (1, 2, 4)}
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2, 4}
    assert all(3 < ml < 150 for ml in millilitres.values())
    assert (case.images[Modality.T1][labels > 0] > 0).all()


def test_necrosis_lies_in_the_rim_and_the_rim_in_one_piece_with_the_core(patient):
    _, labels = patient
    core = np.isin(labels, (1, 4))
    assert ndimage.label(core)[1] == 1
    shell = ndimage.binary_dilation(labels == 1) & (labels != 1)
    assert set(np.unique(labels[shell])) == {4}


def test_each_sub_region_is_bright_or_dark_where_a_radiologist_expects_it(patient):
    case, labels = patient
    images, brain = normalise_case(case)
    by = dict(zip(case.modalities, images, strict=True))
    ncr, ed, et = (labels == value for value in (1, 2, 4))
    normal = brain & (labels == 0) & ndimage.binary_erosion(brain, iterations=8)
    assert by[Modality.T1C][et].mean() > 1.4 * by[Modality.T1C][normal].mean()
    assert by[Modality.T1C][ncr].mean() < 0.7 * by[Modality.T1C][normal].mean()
    assert by[Modality.FLAIR][ed].mean() > 1.4 * by[Modality.FLAIR][normal].mean()
    assert by[Modality.T2][ed].mean() > 1.3 * by[Modality.T2][normal].mean()
    assert by[Modality.T1][ed].mean() < by[Modality.T1][normal].mean()
    assert by[Modality.FLAIR][ncr].mean() < by[Modality.FLAIR][ed].mean()


def test_a_seed_gives_the_same_patient_again_and_another_seed_another(patient):
    case, labels = patient
    again, same_labels = synthetic_case(seed=3)
    np.testing.assert_array_equal(same_labels, labels)
    for modality in MODALITIES:
        np.testing.assert_array_equal(again.images[modality], case.images[modality])
    assert not np.array_equal(synthetic_case(seed=4)[1], labels)


def test_without_nilearn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(InputError, match="pip install nilearn"):
        synthetic_case()
