"""The Segment button, its progress, and what is good to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trame.widgets import html
from trame.widgets import vuetify3 as v

if TYPE_CHECKING:
    from sofa_web.page import Page


def segment_section(page: Page) -> None:
    """Build the section."""
    with html.Div(classes="px-4 pb-2"):
        v.VBtn(
            "{{ phase === 'running' ? 'Cancel' : phase === 'ready' ? 'Segment again' : 'Segment' }}",
            block=True,
            size="large",
            color=("phase === 'running' ? 'warning' : 'primary'",),
            variant=("phase === 'ready' ? 'outlined' : 'flat'",),
            prepend_icon=("phase === 'running' ? 'mdi-close' : 'mdi-creation-outline'",),
            disabled=("phase !== 'running' && (!grid_fits || opening)",),
            click=page.segment.segment_or_cancel,
            raw_attrs=['data-test="segment"'],
        )
        with html.Div(v_if=("phase === 'running'",), classes="mt-2", raw_attrs=['role="status"']):
            v.VProgressLinear(
                model_value=("fraction",),
                indeterminate=("fraction === 0",),
                height=8,
                rounded=True,
                color="primary",
                raw_attrs=['aria-label="Progress"', 'data-test="progress"'],
            )
            html.Div("{{ stage }}", classes="text-caption mt-1", raw_attrs=['data-test="stage"'])
        v.VAlert(
            v_for="notice in notices",
            key="notice",
            text=("notice",),
            type="warning",
            variant="tonal",
            density="compact",
            classes="mt-2 text-caption",
        )
