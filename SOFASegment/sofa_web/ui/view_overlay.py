"""What lies over each view: its name, a button that fits it; over a slice view also its sides and its slider."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import slicer
from trame.widgets import html
from trame.widgets import vuetify3 as v
from trame_slicer.app.logic.slice_view_logic import connect_slice_view_slider_to_state

from sofa_web.orientation import Sides

if TYPE_CHECKING:
    from trame_server import Server


def slice_overlay(server: Server, _view_id: str, view: Any) -> None:
    """Build the overlay of a slice view."""
    name = view.get_singleton_tag()
    _head(name, view)
    sides = _follow_sides(server, view)
    for edge in ("left", "right", "top", "bottom"):
        html.Span("{{ " + f"{sides}.{edge}" + " }}", classes=f"sofa-side sofa-side-{edge}")
    slider = connect_slice_view_slider_to_state(server, view)
    with html.Div(classes="sofa-view-foot"):
        v.VSlider(
            v_model=(slider.name.value,),
            min=(slider.name.min_value,),
            max=(slider.name.max_value,),
            step=(slider.name.step,),
            hide_details=True,
            density="compact",
            theme="dark",
            thumb_size=14,
            track_size=2,
            raw_attrs=[f'aria-label="{name} slice position in millimetres"'],
        )
        html.Span(
            f"{{{{ {sides}.axis }}}}: {{{{ ({sides}.sign * {slider.name.value}).toFixed(1) }}}} mm",
            classes="sofa-view-mm",
        )


def threed_overlay(_server: Server, _view_id: str, view: Any) -> None:
    """Build the overlay of the 3D view."""
    _head("3D", view)


def _follow_sides(server: Server, view: Any) -> str:
    """Keep the name that is returned at the view's `Sides`, however it is turned."""
    name = f"sides_{view.get_singleton_tag().lower()}"

    def follow(*_: object) -> None:
        matrix = slicer.util.arrayFromVTKMatrix(view.get_view_node().GetSliceToRAS())
        sides = asdict(Sides.of(matrix))
        if server.state[name] != sides:
            server.state[name] = sides

    server.state.setdefault(name, None)
    view.modified.connect(follow)
    follow()
    return name


def _head(title: str, view: Any) -> None:
    with html.Div(classes="sofa-view-head"):
        html.Span(title)
        v.VBtn(
            icon="mdi-fit-to-page-outline",
            size="x-small",
            variant="text",
            color="white",
            click=view.fit_view_to_content,
            raw_attrs=[f'aria-label="Fit the {title} view"', f'title="Fit the {title} view"'],
        )
