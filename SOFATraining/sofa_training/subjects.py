"""Which patient a case is of, told by its name: scans of one patient must stay on one side of a split."""

from __future__ import annotations

import re
from collections.abc import Collection

_DAY = r"(?:0[1-9]|[12]\d|3[01])"
_MONTH = r"(?:0[1-9]|1[0-2])"
_YEAR = r"(?:19|20)\d\d"
#: Names of public datasets whose last number is the scan's: BraTS 2017 to 2019, BraTS 2023 and later, UPENN-GBM.
_PUBLIC = re.compile(r"(?P<subject>brats1[789]_.+|brats-[a-z]+-\d+|upenn-gbm-\d+)[_-]\d+", re.IGNORECASE)
#: What follows a patient's name and says which of the scans it is.
_SCAN_MARKS = tuple(
    re.compile(rf"(?P<subject>.+?)[_-]{mark}", re.IGNORECASE)
    for mark in (
        r"ses-[a-z0-9]+(?:[_-].*)?",  # BIDS, whatever comes after the session
        rf"{_YEAR}[-_.]?{_MONTH}[-_.]?{_DAY}(?:[t_-]\d{{4}}(?:\d\d)?)?",
        rf"{_DAY}[-_.]{_MONTH}[-_.]{_YEAR}",
        r"(?:ses|session|visit|tp|time|timepoint|fu|follow-?up|day|week|month)[_-]?\d+d?(?:-\d+)?",
        r"(?:baseline|follow-?up|pre|post|pre-?op|post-?op)",
    )
)
#: A number that counts scans in one dataset ("P01", "P01_case2") and patients in another ("glioma_case2").
_NUMBERED = re.compile(r"(?P<subject>.+)[_-](?:case|scan)[_-]?\d+", re.IGNORECASE)
#: What names no patient: of "case_20190304" the date is all that tells the patients apart.
_NOBODY = re.compile(
    r"(?:case|patient|pat|pt|subject|subj|sub|study|exam|scan|mri?|brain|brats|glioma|gbm|hgg|lgg|tumou?r|site|cent(?:er|re))s?"
    r"[_-]?",
    re.IGNORECASE,
)


def subject_of(case: str, among: Collection[str] = ()) -> str:
    """Return the patient of a case: its name without what says which of the patient's scans it is.

    Args:
        case: name of the case.
        among: names of all cases of its dataset. "P01_case2" is a scan of P01 where there is a case P01.
    """
    if (public := _PUBLIC.fullmatch(case)) is not None:
        return public["subject"]
    for mark in _SCAN_MARKS:
        found = mark.fullmatch(case)
        if found is not None and not _NOBODY.fullmatch(found["subject"]):
            return subject_of(found["subject"], among)
    numbered = _NUMBERED.fullmatch(case)
    return subject_of(numbered["subject"], among) if numbered and numbered["subject"] in among else case
