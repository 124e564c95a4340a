"""What an evaluation leaves behind: a page, and tables with every number of it."""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from sofa_engine.errors import InputError, OutputError
from sofa_engine.types import SUB_REGIONS
from sofa_training.edits import EditCurve
from sofa_training.evaluation import CaseResult, Evaluation
from sofa_training.plots import case_picture, dice_plot, edits_plot, reliability_plot
from sofa_training.protocols import Protocol
from sofa_training.regions import REGIONS
from sofa_training.reliability import Reliability
from sofa_training.report_tables import write_comparisons, write_edits, write_failed, write_reliability
from sofa_training.statistics import Comparison, compare
from sofa_training.summary import Mean, RegionSummary, read_case_table, summarise, write_case_table, write_summary

CASES, SUMMARY, REPORT = "cases.csv", "summary.csv", "report.html"
COMPARISONS, EDITS, RELIABILITY = "comparisons.csv", "edits.csv", "reliability.csv"
FAILED = "failed.csv"
_WRITTEN = (CASES, SUMMARY, REPORT, COMPARISONS, EDITS, RELIABILITY, FAILED)
#: Dice that a corrected case should reach.
TARGET_DICE = 0.85
_NOTHING_IN_COMMON = "{} has no case in common with this evaluation under the same protocol."


@dataclass(frozen=True)
class _ProtocolPart:
    protocol: Protocol
    rows: tuple[RegionSummary, ...]
    plot: str
    pictures: tuple[str, ...]
    cases: tuple[CaseResult, ...]


@dataclass(frozen=True)
class _EditsPart:
    reached: int
    count: int
    median: str
    plot: str


@dataclass(frozen=True)
class _ReliabilityRow:
    name: str
    calibration: Mean
    rank: Mean


def write_report(evaluation: Evaluation, out: Path, *, against: Path | None = None) -> tuple[RegionSummary, ...]:
    """Write the tables and the page.

    Args:
        evaluation: what was measured.
        out: folder, made if need be.
        against: folder of another evaluation of the same cases, to test differences with.

    Returns:
        The rows of the summary.

    Raises:
        OutputError: the folder cannot be written.
        InputError: `against` is no evaluation.
    """
    rows = summarise(evaluation.results)
    comparisons = compare_with(evaluation.results, against) if against is not None else ()
    make_folder(out)
    try:
        write_case_table(evaluation.results, out / CASES)
        write_failed(evaluation.failed, out / FAILED)
        write_summary(rows, out / SUMMARY, [case.case for case in evaluation.failed])
        if comparisons:
            write_comparisons(comparisons, out / COMPARISONS)
        if evaluation.curves:
            write_edits(evaluation.curves, out / EDITS)
        if evaluation.reliability:
            write_reliability(evaluation.reliability, out / RELIABILITY)
        part = out / f"{REPORT}.part"
        part.write_text(_page(evaluation, rows, comparisons, against), encoding="utf-8")
        part.replace(out / REPORT)
    except OSError as error:
        raise OutputError(
            f"The report cannot be written to {out} ({error.strerror}); choose another folder."
        ) from error
    return rows


def make_folder(out: Path) -> None:
    """Make the folder of a report.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be created ({error.strerror}); choose another folder.") from error


def forget_report(out: Path) -> None:
    """Remove what an earlier evaluation left in a folder: not every evaluation writes every file.

    Raises:
        OutputError: a file cannot be removed.
    """
    for name in _WRITTEN:
        try:
            (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{out / name} is of an earlier evaluation and cannot be removed ({error.strerror}); choose another "
                "folder."
            ) from error


def check_comparable(other: Path, cases: Collection[str], protocols: Collection[Protocol]) -> None:
    """Make sure, before anything is computed, that `compare_with` will have something to compare.

    Raises:
        InputError: `other` is no evaluation, or has none of these cases under one of these protocols.
    """
    if not any(r.case in cases and r.protocol in protocols for r in read_case_table(other / CASES)):
        raise InputError(_NOTHING_IN_COMMON.format(other))


def compare_with(results: Sequence[CaseResult], other: Path) -> tuple[Comparison, ...]:
    """Test each protocol's and region's Dice (where present) against another evaluation, case by case.

    Raises:
        InputError: `other` is no evaluation, or has no case in common under the same protocol.
    """
    theirs = {
        (result.case, result.protocol, score.region): score.dice
        for result in read_case_table(other / CASES)
        for score in result.scores
    }
    pairs: dict[str, tuple[list[float], list[float]]] = {}
    for result in results:
        for score in result.scores:
            key = (result.case, result.protocol, score.region)
            if key in theirs and score.present:
                first, second = pairs.setdefault(f"{result.protocol.value} {score.region}", ([], []))
                first.append(theirs[key])
                second.append(score.dice)
    if not pairs:
        raise InputError(_NOTHING_IN_COMMON.format(other))
    return compare(pairs)


def seen_cases(evaluation: Evaluation) -> tuple[str, ...]:
    """Return the measured cases that the model was trained on, which say nothing about new patients."""
    measured = dict.fromkeys(result.case for result in evaluation.results)
    return tuple(case for case in measured if case in (evaluation.trained_on or ()))


def _page(
    evaluation: Evaluation, rows: Sequence[RegionSummary], comparisons: Sequence[Comparison], against: Path | None
) -> str:
    environment = jinja2.Environment(loader=jinja2.PackageLoader("sofa_training"), autoescape=True, trim_blocks=True)
    protocols = list(dict.fromkeys(result.protocol for result in evaluation.results))
    return environment.get_template("evaluation.html.j2").render(
        model=evaluation.model,
        cases=len({result.case for result in evaluation.results}),
        failed=evaluation.failed,
        seen=seen_cases(evaluation),
        known=evaluation.trained_on is not None,
        regions=REGIONS,
        protocols=[_protocol_part(evaluation, rows, protocol) for protocol in protocols],
        edits=_edits_part(evaluation.curves),
        target=TARGET_DICE,
        reliability=_reliability_rows(evaluation.reliability),
        reliability_plot=_inline(reliability_plot(evaluation.reliability)) if evaluation.reliability else "",
        comparisons=comparisons,
        other=against.name if against is not None else "",
    )


def _protocol_part(evaluation: Evaluation, rows: Sequence[RegionSummary], protocol: Protocol) -> _ProtocolPart:
    own = [result for result in evaluation.results if result.protocol is protocol]
    ranked = sorted(own, key=_mean_dice)
    picks = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
    pictures = []
    for name, result in picks.items():
        if (result.case, protocol) in evaluation.pictures:
            title = f"{name} of {len(ranked)}: {result.case}, mean Dice {_mean_dice(result):.3f}"
            pictures.append(_inline(case_picture(*evaluation.pictures[result.case, protocol], title)))
    mine = tuple(row for row in rows if row.protocol is protocol)
    return _ProtocolPart(protocol, mine, _inline(dice_plot(own)), tuple(pictures), tuple(ranked))


def _mean_dice(result: CaseResult) -> float:
    present = [score.dice for score in result.scores if score.present]
    return float(np.mean(present)) if present else 0.0


def _edits_part(curves: Sequence[EditCurve]) -> _EditsPart | None:
    if not curves:
        return None
    counts = [count for curve in curves if (count := curve.edits_to(TARGET_DICE)) is not None]
    median = f"{np.median(counts):g}" if counts else "no number of"
    return _EditsPart(len(counts), len(curves), median, _inline(edits_plot(curves, TARGET_DICE)))


def _reliability_rows(cases: Sequence[Reliability]) -> list[_ReliabilityRow]:
    if not cases:
        return []
    return [
        _ReliabilityRow(
            sub_region.value.upper(),
            Mean.of(case.calibration_error[sub_region.index] for case in cases),
            Mean.of(case.rank[sub_region.index] for case in cases),
        )
        for sub_region in SUB_REGIONS
    ]


def _inline(png: bytes) -> str:
    return base64.b64encode(png).decode()
