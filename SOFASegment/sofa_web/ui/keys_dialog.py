"""What mouse and keyboard do."""

from __future__ import annotations

from trame.widgets import html
from trame.widgets import vuetify3 as v

_KEYS = (
    ("Drag a face of a box", "resize it; the segment inside follows"),
    ("Drag the middle of a box", "move it"),
    ("Wheel", "go through the slices"),
    ("Right button", "zoom; in 3D too"),
    ("Middle button", "move the picture"),
    ("Shift and move", "crosshair; the other views follow"),
    ("Left button in 3D", "turn"),
    ("S", "segment, or cancel"),
    ("Ctrl+Z, Ctrl+Y", "undo, redo"),
    ("B", "show or hide the boxes"),
    ("C", "colour what the model is unsure of"),
    ("N, P", "next or previous uncertain slice"),
    ("Tab, arrows", "reach every control; arrows move sliders, also those of the slices"),
)


def keys_dialog() -> None:
    """Build the dialog."""
    with v.VDialog(v_model=("keys_open",), max_width=560), v.VCard(title="Mouse and keyboard"):
        with v.VTable(density="compact"), html.Tbody():
            for keys, meaning in _KEYS:
                with html.Tr():
                    html.Th(keys, raw_attrs=['scope="row"'])
                    html.Td(meaning)
        with v.VCardActions():
            v.VSpacer()
            v.VBtn("Close", click="keys_open = false")
