"""The edges of one box as sliders, beside the views that show what they do."""

from __future__ import annotations

from trame.widgets import html
from trame.widgets import vuetify3 as v

from sofa_web.logic.place_box import EDGES


def place_box_dialog() -> None:
    """Build the dialog; it lies over the panel and leaves the views in sight."""
    with (
        v.VDialog(v_model=("edges_open",), width=340, scrim=False, classes="sofa-edges"),
        v.VCard(elevation=8, raw_attrs=[':aria-label="`Edges of the box of ${edges_title}`"']),
    ):
        v.VCardTitle("{{ edges_title }}: edges of the box", classes="text-subtitle-1")
        with v.VCardText(classes="pb-0"):
            for axis, name in enumerate(EDGES):
                with html.Div(v_if=(f"edge_axes[{axis}]",), classes="mb-2"):
                    _edge(name, f"edge_axes[{axis}]")
        with v.VCardActions():
            v.VSpacer()
            v.VBtn("Close", click="edges_open = false")


def _edge(name: str, axis: str) -> None:
    with html.Div(classes="d-flex text-caption"):
        html.Span(f"Slices {{{{ {name}[0] }}}} to {{{{ {name}[1] }}}}, {{{{ {axis}.title }}}}", classes="flex-grow-1")
        html.Span(f"{{{{ (({name}[1] - {name}[0] + 1) * {axis}.spacing).toFixed(1) }}}} mm", classes="sofa-number")
    v.VRangeSlider(
        v_model=(name,),
        min=0,
        max=(f"{axis}.most",),
        step=1,
        density="compact",
        hide_details=True,
        raw_attrs=[f':aria-label="`Slices ${{{axis}.title}}`"'],
    )
