"""Which MRI sequence a file name or a DICOM SeriesDescription speaks of."""

from __future__ import annotations

import re

from sofa_engine.types import Modality

#: Names in use: BraTS up to 2020 (t1ce) and from 2023 (t1n, t1c, t2w, t2f), BIDS (T1w), clinics (t1gd, t1post, t1km).
_ALIASES: dict[str, Modality] = {
    **dict.fromkeys(("t1", "t1n", "t1w", "t1pre", "t1native", "t1flair", "t1wflair"), Modality.T1),
    **dict.fromkeys(("t1c", "t1ce", "t1gd", "t1post", "t1km", "t1contrast", "t1cw", "t1wce"), Modality.T1C),
    **dict.fromkeys(("t2", "t2w"), Modality.T2),
    **dict.fromkeys(("flair", "fla", "t2f", "t2flair", "flairw"), Modality.FLAIR),
}
#: Words that make a T1 a T1c wherever they stand ("ce-gadolinium_T1w", "AX T1 POST").
_CONTRAST = frozenset({"post", "postcontrast", "gd", "gad", "gado", "gadolinium", "ce", "contrast", "km", "enhanced"})
#: Words that take that back wherever they stand ("T1 pre contrast"), and right before such a word ("w/o contrast").
_BEFORE_CONTRAST = frozenset({"pre", "precontrast", "native", "nativ"})
_NO = frozenset({"non", "no", "without", "wo", "ohne", "vor"})
#: Words between the two that change nothing ("without IV contrast").
_FILLERS = frozenset({"iv", "i", "v"})
#: Words of images that are not anatomical sequences, whatever else their name says.
_DERIVED = frozenset(
    {"map", "adc", "dwi", "dti", "swi", "dsc", "dce", "perf", "perfusion", "localizer", "localiser", "scout", "survey"}
    | {"mip", "t2star", "prob", "probs", "probability", "probabilities", "subtraction", "subtracted"}
)
#: Words of how an image was taken, which the sequences of one patient need not share.
_TECHNIQUE = frozenset(
    {"ax", "axial", "tra", "transversal", "sag", "sagittal", "cor", "coronal", "2d", "3d", "iso", "fs", "fatsat"}
    | {"mprage", "mpr", "spgr", "fspgr", "bravo", "space", "cube", "vista", "tse", "fse", "se", "gre", "tfe", "ffe"}
    | {"flash", "tirm", "spc", "blade", "propeller", "p2", "p3"}
)
#: Siemens' word for fluid attenuation: it makes a T2 ("t2_tirm_tra_dark-fluid") a FLAIR, while a T1 stays a T1.
_DARK_FLUID = "darkfluid"
_LABEL_WORDS = frozenset(
    {"gt", "truth", "groundtruth", "segmentation", "labels", "labelmap", "roi", "pred", "prediction"}
)
_LABEL_ENDINGS = ("seg", "mask", "label")
#: What is written in other ways than words: pattern and the words that it stands for.
_SIGNS = (
    (re.compile(r"t2\*"), "t2star"),
    (re.compile(r"w/o"), "without"),
    # "+C" and "C+" beside "C-" and " -C", while the hyphen of "T1-C" only joins.
    (re.compile(r"\+ ?c(?![a-z0-9])|(?<![a-z0-9])c ?\+"), " contrast "),
    (re.compile(r"(?<![a-z0-9])c-(?![a-z0-9])|(?<=\s)-c(?![a-z0-9])"), " without contrast "),
    (re.compile(r"dark[ _-]?fluid|(?<![a-z0-9])da[_-]fl(?![a-z0-9])"), f" {_DARK_FLUID} "),
    (re.compile(r"(pre|post)[ _-]?op(?=erativ|[^a-z]|$)"), r"\1op"),
    # BIDS and others call a subject "sub"; elsewhere it is a subtraction.
    (re.compile(r"^sub[-_]|(?<![a-z0-9])sub[ _-]?(?=[0-9])"), "subject "),
    (re.compile(r"(?<![a-z0-9])sub(?![a-z0-9])"), "subtraction"),
)


def tokens_of(name: str) -> list[str]:
    """Split a name at everything that is neither a letter nor a digit, in lower case; "+C" becomes a word."""
    name = name.lower()
    for sign, words in _SIGNS:
        name = sign.sub(words, name)
    return re.findall(r"[a-z0-9]+", name)


def is_label_name(name: str) -> bool:
    """Whether a file of this name holds labels ("seg", "brainmask", "dseg", ...) and so is never a sequence."""
    return any(token in _LABEL_WORDS or token.endswith(_LABEL_ENDINGS) for token in tokens_of(name))


def modality_of(name: str) -> Modality | None:
    """Return the sequence that a name speaks of, or None.

    Whole tokens count, neighbours may make up one alias ("T2-FLAIR", "t1_c"), the longest alias wins and of two equally
    long ones the last, since patient names come first.
    """
    tokens = tokens_of(name)
    if is_label_name(name) or _DERIVED.intersection(tokens):
        return None
    found: Modality | None = None
    longest = 0
    for start in range(len(tokens)):
        for alias in (tokens[start], "".join(tokens[start : start + 2])):
            if alias in _ALIASES and len(alias) >= longest:
                found, longest = _ALIASES[alias], len(alias)
    if found is Modality.T1 and _names_contrast(tokens):
        return Modality.T1C
    if found in (None, Modality.T2) and _DARK_FLUID in tokens:
        return Modality.FLAIR
    return found


def case_words_of(name: str) -> tuple[str, ...]:
    """Return the tokens of a name that speak neither of its sequence nor of how it was taken.

    They are what the names of one patient's sequences have in common ("BraTS-GLI-00001-000-t2f" and "...-t1n"); a
    series number as 3D Slicer puts it in front ("3: AX T1 POST") is left out.
    """
    tokens = tokens_of(re.sub(r"^\s*\d+:", "", name))
    words = _ALIASES.keys() | _CONTRAST | _BEFORE_CONTRAST | _NO | _FILLERS | _TECHNIQUE | {_DARK_FLUID}
    taken = {i for i, token in enumerate(tokens) if token in words}
    taken |= {j for i in range(len(tokens) - 1) if "".join(tokens[i : i + 2]) in _ALIASES for j in (i, i + 1)}
    return tuple(token for i, token in enumerate(tokens) if i not in taken)


def _names_contrast(tokens: list[str]) -> bool:
    if _BEFORE_CONTRAST.intersection(tokens):
        return False
    words = [token for token in tokens if token not in _FILLERS]
    return any(word in _CONTRAST and before not in _NO for before, word in zip(["", *words], words, strict=False))
