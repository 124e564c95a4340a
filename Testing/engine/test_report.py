"""Box files in millimetres, and the report."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import ThresholdPredictor, fake_case
from sofa_engine.box_file import BoxFile, read_box_file, write_box_file
from sofa_engine.case import Case
from sofa_engine.errors import InputError, OutputError
from sofa_engine.geometry import Geometry
from sofa_engine.pipeline import segment_case
from sofa_engine.report import render_report, report_dict, write_report
from sofa_engine.types import SUB_REGIONS, Box, LabelScheme, Modality

NCR, ED, ET = SUB_REGIONS
SHAPE = (20, 30, 40)


def turned(degrees: float, spacing: tuple[float, float, float] = (2.0, 0.9, 1.1)) -> Geometry:
    """Return a grid turned about the superior axis and tilted, with axes of different spacing (x, y, z)."""
    a, b = np.radians(degrees), np.radians(degrees / 3)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ about_x * np.array(spacing)
    matrix[:3, 3] = (-12.5, 33.0, 7.25)
    return Geometry.from_matrix(SHAPE, matrix)


@st.composite
def boxes(draw) -> Box:
    bounds = [sorted(draw(st.sets(st.integers(0, n), min_size=2, max_size=2))) for n in SHAPE]
    return Box(tuple(a for a, _ in bounds), tuple(b for _, b in bounds))


@given(st.lists(boxes(), max_size=3), st.sampled_from([0.0, 90.0, 180.0, 17.0, -63.0]))
def test_boxes_come_back_from_millimetres_to_the_same_voxels_on_any_grid(some, degrees):
    geometry = turned(degrees)
    file = BoxFile.model_validate_json(BoxFile.of({ET: tuple(some)}, geometry).model_dump_json())
    assert file.on(geometry) == {ET: tuple(some)}


def test_a_box_file_is_written_and_read_again(tmp_path):
    geometry = turned(0)
    path = write_box_file(tmp_path / "boxes.json", {NCR: (), ET: (Box((1, 2, 3), (4, 5, 6)),)}, geometry)
    assert read_box_file(path).on(geometry) == {NCR: (), ET: (Box((1, 2, 3), (4, 5, 6)),)}
    content = json.loads(path.read_text(encoding="utf-8"))
    assert (content["space"], content["unit"]) == ("RAS", "mm")
    assert set(content["boxes"]["et"][0]) == {"min", "max"}


def test_a_box_drawn_by_hand_holds_the_voxels_whose_centres_it_encloses():
    geometry = Geometry.from_matrix(SHAPE, np.diag([-1.0, -1.0, 1.0, 1.0]))
    file = BoxFile.model_validate({"boxes": {"et": [{"min": [-10.4, -20.4, 2.6], "max": [-4.6, -9.6, 5.4]}]}})
    assert file.on(geometry)[ET] == (Box((3, 10, 5), (6, 21, 11)),)


def test_the_same_file_means_the_same_place_on_another_grid():
    fine, coarse = turned(0, (1.0, 1.0, 1.0)), turned(0, (2.0, 2.0, 2.0))
    drawn = Box((4, 6, 8), (8, 12, 16))
    (box,) = BoxFile.of({ET: (drawn,)}, fine).on(coarse)[ET]
    there, here = coarse.box_corners_ras(box), fine.box_corners_ras(drawn)
    assert np.allclose(there.mean(axis=0), here.mean(axis=0), atol=1)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("not json", "not valid JSON"),
        ("[]", "not a box file"),
        ('{"boxes": {"oedema": []}}', "boxes.oedema"),
        ('{"space": "LPS", "boxes": {}}', "space"),
        ('{"unit": "voxel", "boxes": {}}', "unit"),
        ('{"boxes": {"et": [{"min": [0, 0, 0], "max": [1, -1, 1]}]}}', "max must exceed min"),
        ('{"boxes": {"et": [{"min": [0, 0, 0], "max": [1, 1, NaN]}]}}', "finite"),
        (
            '{"boxes": {"et": [{"center": [0, 0, 0], "size": [1, 1, 1], "axes": [[1,0,0],[1,0,0],[0,0,1]]}]}}',
            "box file",
        ),
    ],
)
def test_a_wrong_box_file_is_one_sentence_that_says_where(tmp_path, content, sentence):
    path = tmp_path / "boxes.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=sentence) as error:
        read_box_file(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_box_outside_the_volume_is_refused_with_the_likely_reason():
    file = BoxFile.model_validate({"boxes": {"ed": [{"min": [900, 900, 900], "max": [910, 910, 910]}]}})
    with pytest.raises(InputError, match=r"Box 1 of oedema lies outside.*RAS millimetres"):
        file.on(turned(0))


def test_a_box_file_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_box_file(tmp_path / "boxes.json")


# The pipeline


def segmented(case: Case | None = None, file: BoxFile | None = None):
    return segment_case(fake_case()[0] if case is None else case, ThresholdPredictor(), boxes=file)


def test_a_case_on_its_working_grid_is_segmented_as_it_is():
    outcome = segmented()
    assert outcome.working is outcome.case
    assert np.array_equal(outcome.labels(), outcome.session.labels())
    assert list(outcome.timings_s) == ["working grid", "first pass"]


def test_labels_come_back_on_the_cases_own_turned_grid():
    case, _ = fake_case()
    straight = segmented(case).labels()
    index = np.eye(4)[[2, 1, 0, 3]]  # i and k exchanged
    sagittal = Case(
        {m: image.transpose(2, 1, 0).copy() for m, image in case.images.items()},
        Geometry.from_matrix(case.geometry.shape[::-1], case.geometry.matrix @ index),
    )
    assert np.array_equal(segmented(sagittal).labels(), straight.transpose(2, 1, 0))


def test_given_boxes_replace_those_of_the_sub_regions_that_they_mention():
    first = segmented()
    (box,) = first.session.boxes()[ET]
    larger = box.grown((3, 3, 3), first.working.geometry.shape)
    told = []
    file = BoxFile.of({ET: (larger,), NCR: ()}, first.working.geometry)
    outcome = segment_case(fake_case()[0], ThresholdPredictor(), boxes=file, progress=told.append)
    assert outcome.session.boxes() == {NCR: (), ED: first.session.boxes()[ED], ET: (larger,)}
    assert (outcome.labels() == ET.label).sum() > (first.labels() == ET.label).sum()
    assert not (outcome.labels() == NCR.label).any()
    assert [p.fraction for p in told] == sorted(p.fraction for p in told)
    assert told[-1].fraction == pytest.approx(1)


def test_a_failed_case_frees_the_model():
    predictor = ThresholdPredictor()
    case, _ = fake_case()
    empty = replace(case, images={m: np.full_like(v, 7) for m, v in case.images.items()})
    with pytest.raises(InputError):
        segment_case(empty, predictor)
    assert predictor.released


# The report


class _Page(HTMLParser):
    """Collects what a page shows and what it would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.loads = "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def outcome():
    return segmented()


@pytest.fixture(scope="module")
def facts(outcome):
    return report_dict(outcome.session, outcome.case, timings_s={"first pass": 1.234}, outputs={"labels": "out.nii.gz"})


def test_the_facts_are_json_and_say_what_was_measured(outcome, facts):
    assert json.loads(json.dumps(facts)) == facts
    assert facts["volumes_ml"]["WT"] == pytest.approx((outcome.labels() > 0).sum() / 1000, abs=1e-3)
    assert facts["model"]["sha256"] == "0" * 64
    assert BoxFile.model_validate(facts["boxes"]).on(outcome.working.geometry) == outcome.session.boxes()
    assert {tuple(w) for w in facts["attention"].values()} == {("t1", "t1c", "t2", "flair")}
    assert facts["timings_s"] == {"first pass": 1.23}
    assert facts["versions"]["sofa"]
    assert facts["labels"] == {"ncr": 1, "ed": 2, "et": 4}


def test_the_scheme_of_the_labels_is_named(outcome):
    facts = report_dict(outcome.session, outcome.case, scheme=LabelScheme.BRATS2023)
    assert facts["labels"]["et"] == 3
    assert facts["label_scheme"] == "2023"


def test_slices_worth_a_look_are_found_in_the_patient(outcome, facts):
    for look in facts["uncertain_slices"]:
        z = outcome.working.geometry.index_to_ras(np.array([look["slice"], 0, 0]))[2]
        assert look["superior_mm"] == pytest.approx(z, abs=0.01)


def test_the_page_shows_everything_and_loads_nothing_from_elsewhere(outcome, facts):
    page = _Page(render_report(facts, outcome.working, outcome.session.labels()))
    assert page.loads
    assert all(source.startswith("data:image/png;base64,") for source in page.loads)
    for source in page.loads:
        assert base64.b64decode(source.partition(",")[2]).startswith(b"\x89PNG")
    for words in (
        "Necrotic core",
        f"{facts['volumes_ml']['WT']:.2f}",
        "0" * 64,
        "1.23 s",
        "out.nii.gz",
        "Whole tumour",
    ):
        assert words in page.text


def test_a_case_name_cannot_smuggle_code_into_the_page(outcome):
    named = replace(outcome.case, name="<script>alert(1)</script>", warnings=("<b>bold</b>",))
    facts = report_dict(outcome.session, named)
    page = render_report(facts, outcome.working, outcome.session.labels())
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_report_without_a_tumour_and_with_one_sequence_is_a_report(tmp_path):
    case, _ = fake_case((Modality.T1,))
    outcome = segmented(case)
    path = write_report(tmp_path / "report.html", report_dict(outcome.session, case), case, outcome.session.labels())
    text = _Page(path.read_text(encoding="utf-8")).text
    assert re.search(r"No sub-region was found", text)
    assert "Without T1c," in text


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path, outcome, facts):
    with pytest.raises(OutputError):
        write_report(tmp_path / "missing" / "report.html", facts, outcome.working, outcome.session.labels())
    assert list(tmp_path.iterdir()) == []
