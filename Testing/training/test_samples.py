from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sofa_engine.errors import InputError
from sofa_engine.types import Box
from sofa_training.augment import draw_spatial, drop_modalities, unchanged, vary_intensity
from sofa_training.boxes import jitter, own_boxes, tight_box, usual_shares
from sofa_training.config import AugmentationConfig, PromptConfig
from sofa_training.dataset import RunSampler, SliceDataset, neighbourhood
from sofa_training.prepared import read_folder, read_prepared
from sofa_training.transplant import transplanted

STILL = {
    "augmentation__rotation": 0.0, "augmentation__scale": [1.0, 1.0], "augmentation__gamma": [1.0, 1.0],
    "augmentation__gain": 0.0, "augmentation__offset": 0.0,
}  # fmt: skip


def _same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_worker_that_is_spawned_maps_the_same_files_instead_of_copying_every_case(tiny, prepared: Path):
    dataset = SliceDataset(read_folder(prepared), tiny(data__transplant=0.5))
    dataset[0, 0]  # plans and counts are there
    pickled = pickle.dumps(dataset)
    assert len(pickled) < dataset.cases[0].truth.nbytes
    there = pickle.loads(pickled)
    for here, worker in zip(dataset.cases, there.cases, strict=True):
        for name in ("images", "truth"):
            assert getattr(worker, name).filename == getattr(here, name).filename
        np.testing.assert_array_equal(worker.images, here.images)
    assert _same(dataset[1, 3], there[1, 3])
    part = replace(dataset.cases[0], images=dataset.cases[0].images[:, 5:9])
    in_memory = read_prepared(prepared / f"{part.name}.npz", mapped=False)
    for case in (part, in_memory):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(case)).images, case.images)


def test_a_sample_is_a_function_of_seed_epoch_and_position(tiny, prepared: Path):
    config = tiny(augmentation__noise=0.1, augmentation__elastic=4.0, data__transplant=0.5)
    one, two = (SliceDataset(read_folder(prepared), config) for _ in range(2))
    for _ in range(5):
        two[0, 1]  # what was asked for before makes no difference
    assert _same(one[3, 4], two[3, 4])
    assert not torch.equal(one[3, 4].images, one[4, 4].images)
    other = SliceDataset(read_folder(prepared), tiny(augmentation__noise=0.1, run__seed=1))
    assert not torch.equal(one[3, 4].images, other[3, 4].images)


def test_a_dataset_travels_to_a_spawned_worker(tiny, prepared: Path):
    dataset = SliceDataset(read_folder(prepared), tiny())
    assert _same(pickle.loads(pickle.dumps(dataset))[1, 2], dataset[1, 2])


def test_without_augmentation_a_sample_is_the_plain_crop(tiny, prepared: Path):
    dataset = SliceDataset(read_folder(prepared), tiny(**STILL, data__crops=[[64, 64]]))
    sample = dataset[0, 0]
    draw = dataset.plan(0)[0]
    case = dataset.cases[draw.case]
    height, width = case.truth.shape[1:]
    top, left = (64 - height) // 2, (64 - width) // 2
    inside = sample.images[:, 0, top : top + height, left : left + width].numpy()
    # A slice of odd size lies half a pixel off the middle of an even crop, which the interpolation then averages.
    if (64 - height) % 2 == 0 and (64 - width) % 2 == 0:
        np.testing.assert_allclose(inside * 255, case.images[:, draw.index], atol=0.01)
    assert abs(float(sample.truth.sum()) - float((case.truth[draw.index] > 0).sum())) < 0.05 * sample.truth.sum() + 1


def test_zero_slices_per_case_takes_every_slice_with_truth_once(tiny, prepared: Path):
    cases = read_folder(prepared)
    dataset = SliceDataset(cases, tiny(data__slices_per_case=0, data__background=0.0))
    expected = sorted((number, int(z)) for number, case in enumerate(cases) for z in case.tumour_slices)
    assert sorted(dataset.plan(0)) == sorted(dataset.plan(5)) == expected
    assert dataset.plan(0) != dataset.plan(5), "in another order"


def test_balanced_drawing_sees_the_small_sub_region_more_often(tiny, prepared: Path):
    def share(balanced: bool) -> float:
        dataset = SliceDataset(
            read_folder(prepared), tiny(data__slices_per_case=200, data__background=0.0, data__balanced=balanced)
        )
        return float(np.mean([dataset.cases[d.case].pixels[0, d.index] > 0 for d in dataset.plan(0)]))

    assert share(True) > share(False) + 0.02


def test_background_slices_are_drawn_at_their_share(tiny, prepared: Path):
    dataset = SliceDataset(read_folder(prepared), tiny(data__slices_per_case=100, data__background=0.3))
    empty = [not dataset.cases[d.case].pixels[:, d.index].any() for d in dataset.plan(0)]
    assert np.mean(empty) == pytest.approx(0.3, abs=0.07)


def test_one_random_mask_per_iteration_or_all_three(tiny, prepared: Path):
    one = SliceDataset(read_folder(prepared), tiny(loss__sub_regions="one"))
    picks = [one[epoch, 0].chosen for epoch in range(30)]
    assert all(int(p.sum()) == 1 for p in picks) and torch.stack(picks).any(dim=0).all()
    assert SliceDataset(read_folder(prepared), tiny())[0, 0].chosen.all()


def test_cached_variants_repeat_their_pictures_but_draw_prompts_anew(tiny, prepared: Path):
    config = tiny(run__train="decoder", run__cached_variants=2, augmentation__noise=0.1)
    dataset = SliceDataset(read_folder(prepared), config)
    first, later = dataset[0, 3], dataset[2, 3]
    assert torch.equal(first.images, later.images) and torch.equal(first.key, later.key)
    assert not torch.equal(first.boxes, later.boxes)
    assert not torch.equal(first.images, dataset[1, 3].images)


def test_a_neighbourhood_repeats_the_end_slices(prepared: Path):
    case = read_folder(prepared)[0]
    images, labels = neighbourhood(case, 0, 3)
    np.testing.assert_array_equal(images[:, 0], images[:, 1])
    np.testing.assert_array_equal(images[:, 2], case.images[:, 1])
    np.testing.assert_array_equal(labels, case.truth[0])


def test_no_case_with_a_tumour_is_said(tiny):
    with pytest.raises(InputError, match="nothing to learn"):
        SliceDataset([], tiny())


def test_processes_share_each_global_batch_without_overlap_and_a_resumed_one_continues():
    whole = list(RunSampler(10, 4, 3))
    assert [len(batch) for batch in whole] == [4] * 6
    first, second = (list(RunSampler(10, 4, 3, rank=r, world=2)) for r in range(2))
    assert [sorted(a + b) for a, b in zip(first, second, strict=True)] == whole
    assert list(RunSampler(10, 4, 3, start=(1, 1))) == whole[3:]
    assert len(RunSampler(10, 4, 3, start=(1, 1))) == 3
    with pytest.raises(InputError, match="multiple of the 3 processes"):
        RunSampler(10, 4, 3, world=3)


def test_image_truth_and_box_move_together():
    """A bright rectangle, its mask and its box must land in the same place, whatever the change."""
    image = torch.zeros(1, 90, 100)
    image[0, 30:50, 40:70] = 1
    config = AugmentationConfig(rotation=15, scale=(0.9, 1.1), mirror=0.5)
    for seed in range(10):
        change = draw_spatial(config, (42.0, 52.0), (64, 80), np.random.default_rng(seed))
        moved = change.sample(image)[0].numpy() > 0.5
        box = change.map_box(np.array([40, 30, 70, 50]))
        tight = tight_box(moved)
        assert tight is not None
        assert np.abs(box - tight).max() < 1.6
        assert np.all(box[:2] <= tight[:2] + 0.6) and np.all(box[2:] >= tight[2:] - 0.6)


def test_an_unchanged_crop_is_exact():
    image = torch.rand(2, 30, 40)
    crop = unchanged((14.5, 19.5), (20, 20)).sample(image)
    torch.testing.assert_close(crop, image[:, 5:25, 10:30], atol=1e-5, rtol=0)


def test_intensity_changes_keep_range_background_and_differ_between_sequences():
    images = torch.zeros(4, 3, 32, 32)
    images[..., 8:24, 8:24] = 0.5
    config = AugmentationConfig(curve=0.2, bias=0.5, noise=0.2, blur=1.5, gain=0.5, offset=0.3)
    changed = vary_intensity(images, config, np.random.default_rng(0))
    assert changed.min() >= 0 and changed.max() <= 1 and not changed[images == 0].any()
    means = changed[:, 0, 8:24, 8:24].mean(dim=(1, 2))
    assert len({round(float(m), 4) for m in means}) == 4
    torch.testing.assert_close(changed[0, 0].mean(), changed[0, 2].mean(), atol=0.02, rtol=0)


def test_dropping_sequences_always_leaves_one_and_never_adds_any():
    rng = np.random.default_rng(0)
    present = np.array([True, False, True, True])
    kept = np.stack([drop_modalities(present, 0.9, rng) for _ in range(200)])
    assert kept.any(axis=1).all() and not kept[:, 1].any() and kept.sum() < 400


def test_jittered_boxes_stay_in_the_image_and_keep_most_of_the_truth():
    config, rng = PromptConfig(outward=5, inward=0.1, inward_probability=0.3), np.random.default_rng(0)
    boxes = np.stack([jitter(np.array([2, 20, 30, 63], np.float32), config, (64, 48), rng) for _ in range(300)])
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 48 and boxes[:, 3].max() <= 64
    assert (boxes[:, 0] <= 2 + 2.8).all() and (boxes[:, 2] >= 30 - 2.8).all() and (boxes[:, 0] < 2).any()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_own_boxes_are_those_of_the_session():
    logits = torch.full((2, 20, 30), -5.0)
    logits[0, 4:9, 10:25] = 5.0
    boxes, valid = own_boxes(logits, 3)
    assert boxes[0].tolist() == [7, 1, 28, 12] and valid.tolist() == [True, False]


def test_cross_sections_are_given_where_the_slice_itself_has_nothing(tiny, prepared: Path):
    config = tiny(**STILL, prompts__own=0.0, prompts__cross_section=1.0, data__slices_per_case=40)
    dataset = SliceDataset(read_folder(prepared), config)
    samples = [dataset[0, i] for i in range(40)]
    assert any(bool(s.box_valid[r]) and not bool((s.truth[r] > 0.5).any()) for s in samples for r in range(3))


def test_a_transplanted_tumour_comes_with_its_labels_and_stays_in_the_brain(prepared: Path):
    cases = read_folder(prepared)
    changed = 0
    for seed in range(10):
        case, donor = cases[0], cases[1 + seed % 4]
        images, labels = neighbourhood(case, 5, 3)
        new_images, new_labels = transplanted(images, labels, case, 5, donor, np.random.default_rng(seed))
        changed += int((new_labels != labels).any())
        assert set(np.unique(new_labels)) <= {0, 1, 2, 4}
        assert not new_images[:, :, ~images.any(axis=(0, 1))].any()
        assert (new_labels[labels > 0] > 0).all(), "the patient's own tumour stays"
    assert changed >= 5
    same = transplanted(images, labels, case, 5, case, np.random.default_rng(0))
    assert same[0] is images


def test_a_transplanted_tumour_that_roams_lies_at_other_places_on_both_sides(prepared: Path):
    case, donor = read_folder(prepared)[:2]
    images, labels = neighbourhood(case, 5, 3)
    empty = np.zeros_like(labels)
    middle = labels.shape[1] // 2
    one_sided = np.array(donor.truth)
    one_sided[..., : middle + 4] = 0
    donor = replace(donor, truth=one_sided)

    def places(roam: int) -> np.ndarray:
        found = []
        for seed in range(30):
            new = transplanted(images, empty, case, 5, donor, np.random.default_rng(seed), roam=roam)[1]
            if new.any():
                found.append(np.argwhere(new).mean(axis=0))
        return np.array(found)

    still, roaming = places(0), places(6)
    assert len(roaming) >= 10
    assert np.ptp(roaming[:, 0]) > np.ptp(still[:, 0]) + 4
    assert (still[:, 1] > middle).all()
    assert (roaming[:, 1] < middle).any() and (roaming[:, 1] > middle).any()


def test_boxes_of_a_prepared_case_are_those_of_its_truth(prepared: Path):
    case = read_folder(prepared)[0]
    assert case.boxes[1] == Box.of_mask(np.asarray(case.truth) == 2)


def test_usual_shares_are_those_of_the_tight_boxes_slice_by_slice(prepared: Path):
    cases = read_folder(prepared)
    filled, boxed = 0, 0
    for case in cases:
        for mask in case.truth == 4:
            box = tight_box(mask)
            if box is not None:
                filled, boxed = filled + mask.sum(), boxed + (box[2] - box[0]) * (box[3] - box[1])
    assert usual_shares(cases)[2] == pytest.approx(filled / boxed)
    assert usual_shares([]).tolist() == [0, 0, 0]
