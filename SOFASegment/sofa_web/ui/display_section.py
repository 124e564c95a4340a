"""What the views show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trame.widgets import html
from trame.widgets import vuetify3 as v

if TYPE_CHECKING:
    from sofa_web.page import Page


def display_section(page: Page) -> None:
    """Build the panel."""
    with v.VExpansionPanel(title="Display"), v.VExpansionPanelText():
        for name, label, clearable in (("background", "Background", False), ("foreground", "Over it", True)):
            v.VSelect(
                v_model=(name,),
                items=("volumes",),
                label=label,
                clearable=clearable,
                density="compact",
                hide_details=True,
                variant="outlined",
                classes="mb-3",
                disabled=("!volumes.length",),
            )
        _slider("foreground_opacity", "Opacity of what lies over it", disabled="!foreground")
        html.Div(
            "Window {{ (window[1] - window[0]).toPrecision(3) }}, "
            "level {{ ((window[0] + window[1]) / 2).toPrecision(3) }}",
            v_if=("volumes.length",),
            classes="text-caption",
        )
        v.VRangeSlider(
            v_model=("window",),
            min=("window_least",),
            max=("window_most",),
            step=("window_step",),
            density="compact",
            hide_details=True,
            strict=True,
            disabled=("!volumes.length",),
            raw_attrs=['aria-label="Window, lowest and highest grey value"'],
        )
        _slider("fill_opacity", "Opacity of the segments")
        for name, label in (
            ("outline", "Outline of the segments"),
            ("surfaces", "Surfaces in 3D"),
            ("crosshair", "Crosshair (Shift and mouse)"),
        ):
            _switch(name, label)
        v.VSwitch(
            model_value=("boxes_visible",),
            label="Boxes (B)",
            color="primary",
            density="compact",
            hide_details=True,
            click=page.boxes.toggle_visible,
        )
        v.VBtn(
            "Fit all views",
            size="small",
            variant="tonal",
            prepend_icon="mdi-fit-to-page-outline",
            classes="mt-2",
            click=page.display.fit,
        )


def _slider(name: str, label: str, disabled: str = "false") -> None:
    html.Div(label, classes="text-caption")
    v.VSlider(
        v_model=(name,),
        min=0,
        max=1,
        step=0.05,
        density="compact",
        hide_details=True,
        disabled=(disabled,),
        raw_attrs=[f'aria-label="{label}"'],
    )


def _switch(name: str, label: str) -> None:
    v.VSwitch(v_model=(name,), label=label, color="primary", density="compact", hide_details=True)
