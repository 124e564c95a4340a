"""What the page shows, by name: the only words that logic and ui share."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from sofa_engine.types import SUB_REGIONS
from SOFASegmentLib.appearance import COLOURS

#: Colours of the four sequences in the attention chart, told apart on dark and on light ground.
SEQUENCE_COLOURS = {"T1": "#6f8fd1", "T1c": "#d9822b", "T2": "#3fa796", "FLAIR": "#a86bb3"}

#: The module's icon in a few lines: it must come from nowhere else, and a file for it would be one more to ship.
FAVICON = "data:image/svg+xml," + quote(
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><rect width='32' height='32' rx='7' fill='#14213d'/>"
    "<circle cx='16' cy='16' r='11' fill='#8793a8'/><path d='M9 16q1-7 8-7 7 1 6 8-1 6-7 6-6 0-7-7' fill='#3aa65b'/>"
    "<circle cx='16' cy='16' r='4.6' fill='#fcd13f'/><circle cx='16' cy='16' r='2.2' fill='#d8342f'/></svg>"
)


def colour_of(sub_region: Any) -> str:
    """Return a sub-region's colour as CSS."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in COLOURS[sub_region])


def defaults() -> dict[str, Any]:
    """Return every name of the page's state with its first value."""
    return {
        "trame__title": "SOFA",
        "trame__favicon": FAVICON,
        "theme": "dark",
        "drawer_open": True,
        "keys_open": False,
        # The question before work is lost.
        "question_open": False,
        "question": "",
        "question_title": "",
        "question_yes": "",
        "question_about": "",
        # What is wrong, and what is good to know; sentences.
        "failure": "",
        "notices": [],
        # The case.
        "case_name": "",
        "case_notes": [],
        "grid_sentence": "",
        "grid_fits": False,
        "can_align": False,
        "sequences_open": False,
        "sequences": [],
        "candidates": [],
        "opening": False,
        # How much of an upload has been sent; None while none is.
        "upload_percent": None,
        "browse_open": False,
        "browse_allowed": False,
        "browse_path": "",
        "browse_folders": [],
        "browse_volumes": 0,
        "browse_failure": "",
        # The run.
        "phase": "idle",
        "stage": "",
        "fraction": 0.0,
        "working": False,
        "can_undo": False,
        "can_redo": False,
        "model": "",
        # The sub-regions and what follows from them.
        "regions": [
            {
                "key": region.value,
                "title": region.title,
                "colour": colour_of(region),
                "ml": "–",
                "locked": False,
                "boxes": 0,
                "shown": True,
            }
            for region in SUB_REGIONS
        ],
        "totals": [],
        "boxes_visible": True,
        "edges_open": False,
        "edges_title": "",
        "edge_axes": [],
        "edge_z": [0, 1],
        "edge_y": [0, 1],
        "edge_x": [0, 1],
        "confidence_visible": False,
        "uncertain": [],
        "attention": [],
        "sequence_colours": SEQUENCE_COLOURS,
        # The views.
        "layout": "four",
        "volumes": [],
        "background": None,
        "foreground": None,
        "foreground_opacity": 0.5,
        # As a list in the template it would be a new one at every change of the page, and close what was opened.
        "open_panels": [0, 1],
        "window": [0.0, 1.0],
        "window_least": 0.0,
        "window_most": 1.0,
        "window_step": 0.01,
        "fill_opacity": 0.35,
        "outline": True,
        "surfaces": True,
        "crosshair": True,
        # Export.
        "scheme": "2020",
    }
