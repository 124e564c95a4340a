from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sofa_engine.api import ModelInfo
from sofa_engine.errors import InputError
from sofa_engine.predictor import SlicePrediction
from sofa_engine.types import SUB_REGIONS, Modality
from sofa_training.averaged import AveragedSequences
from sofa_training.cases import find_cases
from sofa_training.edits import EditCurve
from sofa_training.evaluation import CaseResult, Evaluation, EvaluationOptions, evaluate
from sofa_training.metrics import RegionScore, overlap
from sofa_training.paper_tables import TABLES, lines
from sofa_training.protocols import Protocol, control_mask
from sofa_training.regions import REGIONS, region_mask
from sofa_training.reliability import FirstAnswers, calibration_bins, expected_calibration_error
from sofa_training.report import COMPARISONS, EDITS, RELIABILITY, compare_with, write_report
from sofa_training.summary import read_case_table, summarise, write_case_table
from sofa_training.tta import MirroredPredictor

ALL = tuple(Protocol)


class BrightnessPredictor:
    """A model made of thresholds that are right for the phantoms, and that misses what it is told to miss."""

    def __init__(self, blind_to: str = "") -> None:
        self._blind = blind_to
        self.given: tuple[Modality, ...] = ()
        self.boxes: list[np.ndarray] = []

    info = ModelInfo("thresholds", "0" * 64, "none", "default", "cpu", trained=True)

    def encode(self, images, modalities, spacing=(1.0, 1.0, 1.0), *, progress=None, cancel=None) -> None:
        self.given, self.images = modalities, images
        t1c = images[modalities.index(Modality.T1C)] if Modality.T1C in modalities else images[0]
        flair = images[-1]
        et = t1c > 180
        ncr = (t1c < 40) & (flair > 35)
        self._masks = np.stack([ncr, (flair > 180) & ~et & ~ncr, et])

    def _answer(self, index: int, slices) -> np.ndarray:
        found = self._masks[index][slices].astype(np.float32)
        return found * 0 if SUB_REGIONS[index].value == self._blind else found * 0.98 + 0.01

    def segment(self, slices, *, cancel=None) -> SlicePrediction:
        probabilities = np.stack([self._answer(i, slices) for i in range(3)])
        return SlicePrediction(probabilities, np.full((3, len(slices)), 0.9, np.float32))

    def prompt(self, sub_region, slices, boxes, heights=None, *, stated=True, cancel=None) -> SlicePrediction:
        self.boxes.append(np.array(boxes))
        found = self._masks[sub_region.index][slices].astype(np.float32) * 0.98 + 0.01
        return SlicePrediction(found, np.full(len(slices), 0.9, np.float32))

    def attention(self) -> np.ndarray:
        return np.full((3, len(self.given), self.images.shape[1], 2, 2), 1 / len(self.given), np.float16)

    def believe(self, probabilities: np.ndarray) -> None:
        pass

    def look_ahead(self) -> bool:
        return False

    def release(self) -> None:
        self.given = ()


def test_a_good_model_scores_high_under_every_protocol_and_beats_the_controls(brats_folder: Path):
    evaluation = evaluate(find_cases(brats_folder)[:2], BrightnessPredictor(), EvaluationOptions(ALL))
    rows = {(row.protocol, row.region): row for row in summarise(evaluation.results)}
    assert len(rows) == 3 * len(REGIONS)
    for (protocol, region), row in rows.items():
        assert row.dice_present.mean > 0.75, (protocol, region)
        assert row.control.mean < row.dice_present.mean
    assert all(rows[Protocol.AUTO, region].control.mean == 0 for region in REGIONS)


def test_a_box_finds_what_the_model_alone_missed_and_no_box_is_no_help(brats_folder: Path):
    evaluation = evaluate(find_cases(brats_folder)[:1], BrightnessPredictor(blind_to="et"), EvaluationOptions(ALL))
    dice = {(r.protocol, r.region): r.dice.mean for r in summarise(evaluation.results)}
    assert dice[Protocol.AUTO, "ET"] == 0
    assert dice[Protocol.BOX3D, "ET"] > 0.75 and dice[Protocol.ORACLE, "ET"] > 0.75


def test_the_automatic_protocol_never_sees_a_box_of_the_truth(brats_folder: Path):
    """With a model that finds nothing by itself, any prompt would have to come from the truth."""
    blind = BrightnessPredictor()
    blind.segment = (
        lambda slices, cancel=None: SlicePrediction(  # type: ignore[method-assign]
            np.zeros((3, len(slices), *blind.images.shape[2:]), np.float32), np.zeros((3, len(slices)), np.float32)
        )
    )
    evaluation = evaluate(find_cases(brats_folder)[:1], blind, EvaluationOptions((Protocol.AUTO,), distances=False))
    assert blind.boxes == []
    assert all(score.volume_ml == 0 for score in evaluation.results[0].scores)


def test_sequences_that_are_not_given_do_not_reach_the_model(brats_folder: Path):
    predictor = BrightnessPredictor()
    seen: list[tuple[Modality, ...]] = []
    encode = predictor.encode
    predictor.encode = lambda images, modalities, *_, **k: (seen.append(modalities), encode(images, modalities))  # type: ignore
    options = EvaluationOptions(distances=False, sequences=(Modality.FLAIR,))
    evaluate(find_cases(brats_folder)[:1], predictor, options)
    assert seen == [(Modality.FLAIR,)]


def test_edits_raise_the_curve_to_the_target(brats_folder: Path):
    evaluation = evaluate(
        find_cases(brats_folder)[:1], BrightnessPredictor(blind_to="ed"), EvaluationOptions(distances=False, edits=4)
    )
    (curve,) = evaluation.curves
    assert curve.dice[0] < 0.75 < curve.dice[1] and curve.edits_to(0.75) == 1
    assert EditCurve("x", (0.1, 0.2)).edits_to(0.85) is None


def test_calibration_error_is_zero_for_honest_probabilities_and_their_gap_otherwise():
    truth = np.arange(1000) % 10 < 3
    error = {p: expected_calibration_error(calibration_bins(np.full(1000, p), truth)) for p in (0.3, 0.9)}
    assert error == pytest.approx({0.3: 0, 0.9: 0.6}, abs=1e-9)
    assert np.isnan(expected_calibration_error(calibration_bins(np.array([]), np.array([], bool))))


def test_reliability_is_measured_per_sub_region(brats_folder: Path):
    options = EvaluationOptions(distances=False, reliability=True)
    (row,) = evaluate(find_cases(brats_folder)[:1], BrightnessPredictor(), options).reliability
    assert all(0 <= value < 0.6 for value in row.calibration_error)
    assert all(np.isnan(value) for value in row.rank), "a constant estimate ranks nothing"
    assert row.bins.shape == (3, 3, 15) and (row.bins[:, 0].sum(axis=1) > 0).all()


def test_what_the_model_has_said_of_a_slice_is_not_computed_again(brats_folder: Path):
    predictor = BrightnessPredictor()
    decoded: list[int] = []
    segment = predictor.segment
    predictor.segment = lambda slices, **more: (decoded.extend(slices), segment(slices, **more))[1]  # type: ignore
    options = EvaluationOptions(ALL, distances=False, edits=3, reliability=True)
    evaluate(find_cases(brats_folder)[:1], predictor, options)
    assert len(decoded) == len(set(decoded)), "neither reliability nor corrections decode a first pass again"
    remembering = FirstAnswers(predictor)
    for slices in (np.array([3, 1]), np.array([1, 2, 3])):
        again, fresh = remembering.segment(slices), segment(slices)
        np.testing.assert_array_equal(again.probabilities, fresh.probabilities)
        np.testing.assert_array_equal(again.quality, fresh.quality)


def test_corrections_start_from_the_first_pass_whatever_was_measured_before(brats_folder: Path):
    def curve(*protocols: Protocol) -> EditCurve:
        options = EvaluationOptions(protocols, distances=False, edits=4)
        return evaluate(find_cases(brats_folder)[:1], BrightnessPredictor(blind_to="et"), options).curves[0]

    assert curve(Protocol.AUTO) == curve(*ALL)


def test_the_report_holds_tables_pictures_and_the_test_against_another_run(brats_folder: Path, tmp_path: Path):
    cases = find_cases(brats_folder)
    worse = evaluate(cases, BrightnessPredictor(blind_to="et"), EvaluationOptions(distances=False))
    better = evaluate(cases, BrightnessPredictor(), EvaluationOptions(distances=False, edits=1, reliability=True))
    write_report(worse, tmp_path / "worse")
    rows = write_report(better, tmp_path / "better", against=tmp_path / "worse")
    page = (tmp_path / "better" / "report.html").read_text(encoding="utf-8")
    for words in ("Protocol “auto”", "nothing of the truth is used", "nothing drawn", "Wilcoxon", "Reliability"):
        assert words in page
    assert page.count("data:image/png;base64,") == 6 and "http" not in page
    assert "it is not known here whether it" in page
    for case in cases:
        assert f"<td>{case.name}</td>" in page, "every case has its line"
    rows_of = {name: list(csv.DictReader((tmp_path / "better" / name).open())) for name in (COMPARISONS, EDITS)}
    assert [row["name"] for row in rows_of[COMPARISONS]] == [f"auto {region}" for region in REGIONS]
    assert {row["case"] for row in rows_of[EDITS]} == {case.name for case in cases}
    assert len(list(csv.DictReader((tmp_path / "better" / RELIABILITY).open()))) == 3 * len(cases)
    with (tmp_path / "better" / "summary.csv").open() as file:
        table = list(csv.DictReader(file))
    assert float(table[0]["dice_mean"]) == pytest.approx(rows[0].dice.mean, rel=1e-4) and len(table) == len(REGIONS)
    gained = {row.name: row for row in compare_with(better.results, tmp_path / "worse")}
    assert gained["auto ET"].mean_difference > 0.7 and gained["auto ET"].p == pytest.approx(2 / 2**5)


def test_cases_that_the_model_was_trained_on_are_marked_in_the_report(brats_folder: Path, tmp_path: Path):
    cases = find_cases(brats_folder)[:2]
    evaluation = evaluate(cases, BrightnessPredictor(), EvaluationOptions(distances=False, pictures=False))
    write_report(replace(evaluation, trained_on=frozenset({cases[1].name})), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The model was trained on 1 of these 2 cases" in page
    assert f"<td>{cases[1].name} *</td>" in page and f"<td>{cases[0].name}</td>" in page


def test_a_table_of_cases_reads_back(tmp_path: Path):
    score = RegionScore("ET", 0.5, 0.25, float("nan"), 2.0, 1.0)
    absent = RegionScore("ET", 1.0, 1.0, 0.0, 0.0, 0.0)
    results = [CaseResult("a", Protocol.AUTO, (score,), (score,)), CaseResult("b", Protocol.AUTO, (absent,), (absent,))]
    write_case_table(results, tmp_path / "cases.csv")
    again = read_case_table(tmp_path / "cases.csv")
    assert [(r.case, r.scores[0].dice, r.scores[0].present) for r in again] == [("a", 0.5, True), ("b", 1.0, False)]
    with pytest.raises(InputError, match="not the table"):
        read_case_table(tmp_path / "nothing.csv")


def test_cases_without_a_region_count_by_brats_rule_in_one_column_and_not_at_all_in_the_next(tmp_path: Path):
    def result(case: str, dice: float, found: float, truth: float) -> CaseResult:
        scores = tuple(RegionScore(region, dice, dice, 0.0, found, truth) for region in REGIONS)
        return CaseResult(case, Protocol.AUTO, scores, scores)

    present = [result("a", 0.8, 5, 5), result("d", 0.2, 1, 0.5)]
    (row, *_) = summarise([*present, result("b", 1.0, 0, 0), result("c", 0.0, 0.6, 0)])
    assert (row.dice.mean, row.dice.count) == (0.5, 4)
    assert (row.dice_present.mean, row.dice_present.count) == (0.5, 2)
    assert (row.dice_large.mean, row.dice_large.count) == (0.8, 1)
    assert (row.absent, row.phantoms) == (2, 1)
    assert row.dice_present.sd == pytest.approx(np.std([0.8, 0.2], ddof=1))


def test_the_papers_tables_show_their_numbers_beside_ours_and_the_control(brats_folder: Path):
    evaluation = evaluate(
        find_cases(brats_folder)[:2], BrightnessPredictor(), EvaluationOptions((Protocol.ORACLE,), distances=False)
    )
    third = next(table for table in TABLES if table.number == 3)
    *rows, control = lines(third, Protocol.ORACLE, {"full": summarise(evaluation.results)})
    assert rows[-1].label == "Full framework" and rows[-1].cells[0] == "0.710 ± 0.110"
    assert rows[-1].cells[1] != "-" and rows[0].cells[1] == "-"
    assert "ellipse" in control.label and control.cells[1] not in ("", "-")


def test_mirrored_and_averaged_predictors_answer_like_the_plain_one_where_symmetry_holds():
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (4, 3, 8, 10)).astype(np.float32)
    names = tuple(Modality)
    plain, mirrored = BrightnessPredictor(), MirroredPredictor(BrightnessPredictor(), BrightnessPredictor())
    plain.encode(images, names)
    mirrored.encode(images, names)
    slices, boxes = np.array([0, 2]), np.array([[1, 2, 5, 6], [0, 0, 10, 8]], np.float32)
    np.testing.assert_allclose(mirrored.segment(slices).probabilities, plain.segment(slices).probabilities)
    one = plain.prompt(SUB_REGIONS[1], slices, boxes).probabilities
    np.testing.assert_allclose(mirrored.prompt(SUB_REGIONS[1], slices, boxes).probabilities, one)
    np.testing.assert_allclose(mirrored._mirrored.boxes[0], [[5, 2, 9, 6], [0, 0, 10, 8]])  # type: ignore[attr-defined]
    inner = BrightnessPredictor()
    AveragedSequences(inner).encode(images, names)
    np.testing.assert_allclose(inner.images[0], images.mean(axis=0), rtol=1e-6)


def test_a_case_is_measured_on_its_own_grid_even_if_the_engine_works_on_another(patients, tmp_path: Path):
    folder = patients.brats(tmp_path, "a", 1)
    upside_down = np.diag([-1.0, -1.0, -1.0, 1.0])
    labels = patients.labels(1)
    for path in folder.iterdir():
        suffix = path.name.removeprefix("a_").removesuffix(".nii.gz")
        array = labels if suffix == "seg" else patients.image(suffix, labels, 1)
        patients.save(path, array[::-1], upside_down)
    (result,) = evaluate(find_cases(tmp_path), BrightnessPredictor(), EvaluationOptions()).results
    assert all(score.dice > 0.7 for score in result.scores)


def test_a_control_is_drawn_where_the_model_is_given_its_boxes(patients, tmp_path: Path):
    """Each voxel cut into four by four columns: what a person draws is as large as before, and so is the control."""
    coarse, labels = patients.brats(tmp_path / "coarse", "a", 1), patients.labels(1)
    fine_grid = nib.load(coarse / "a_t1.nii.gz").affine @ np.diag([0.25, 0.25, 1, 1])
    fine_grid[:2, 3] += nib.load(coarse / "a_t1.nii.gz").affine[:2, :2] @ [-0.375, -0.375]
    for path in coarse.iterdir():
        array = np.asarray(nib.load(path).dataobj).T
        patients.save(tmp_path / "fine" / "a" / path.name, array.repeat(4, 1).repeat(4, 2), fine_grid)
    options = EvaluationOptions((Protocol.BOX3D, Protocol.ORACLE), distances=False)
    at = {
        grid: evaluate(find_cases(tmp_path / grid), BrightnessPredictor(), options).results
        for grid in ("coarse", "fine")
    }
    for coarse_result, fine_result in zip(at["coarse"], at["fine"], strict=True):
        for one, two in zip(coarse_result.controls, fine_result.controls, strict=True):
            assert two.dice == pytest.approx(one.dice, abs=0.05), (coarse_result.protocol, one.region)
    # On the grid that the engine works on anyway nothing is carried over.
    for result in at["coarse"]:
        for control in result.controls:
            mask = region_mask(labels, control.region)
            drawn = control_mask(result.protocol, labels, control.region, "a")
            assert control.dice == overlap(drawn, mask)[0]


def test_an_evaluation_of_nothing_in_common_is_refused(tmp_path: Path):
    score = RegionScore("ET", 0.5, 0.25, 1.0, 2.0, 1.0)
    one = CaseResult("a", Protocol.AUTO, (score,), (score,))
    write_case_table([one], tmp_path / "cases.csv")
    with pytest.raises(InputError, match="no case in common"):
        compare_with([replace(one, case="b")], tmp_path)
    with pytest.raises(InputError, match="no case in common"):
        compare_with([replace(one, protocol=Protocol.ORACLE)], tmp_path)
    assert Evaluation(BrightnessPredictor.info, ()).curves == ()
