"""Confidence, slices worth a look, and which sequence the model relied on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trame.widgets import html
from trame.widgets import vuetify3 as v

if TYPE_CHECKING:
    from sofa_web.page import Page


def judge_section(page: Page) -> None:
    """Build the panel."""
    with v.VExpansionPanel(title="How sure is it?"), v.VExpansionPanelText():
        v.VSwitch(
            v_model=("confidence_visible",),
            label="Colour what the model is unsure of",
            color="primary",
            density="compact",
            hide_details=True,
            disabled=("phase !== 'ready'",),
        )
        html.P(
            "From red, hardly better than a guess, to blue, nearly sure; what is surer stays uncoloured.",
            v_if=("confidence_visible",),
            classes="text-caption text-medium-emphasis",
        )
        with html.Div(classes="d-flex align-center mt-2"):
            html.H3("Slices worth a look", classes="text-subtitle-2 flex-grow-1")
            for icon, title, step in (
                ("mdi-chevron-left", "Previous uncertain slice (P)", -1),
                ("mdi-chevron-right", "Next uncertain slice (N)", 1),
            ):
                v.VBtn(
                    icon=icon,
                    size="x-small",
                    variant="text",
                    disabled=("!uncertain.length",),
                    click=(page.judge.step, f"[{step}]"),
                    raw_attrs=[f'aria-label="{title}"', f'title="{title}"'],
                )
        html.P(
            "They are listed once a case is segmented.",
            v_if=("!uncertain.length",),
            classes="text-caption text-medium-emphasis",
        )
        with v.VList(v_if=("uncertain.length",), density="compact", classes="sofa-uncertain py-0"):
            with v.VListItem(
                v_for="s in uncertain",
                key="s.slice + s.region",
                click=(page.judge.jump, "[s.slice]"),
                raw_attrs=['data-test="uncertain"'],
            ):
                html.Span("{{ s.position }}", classes="sofa-slice")
                html.Span("{{ s.region }}", classes="flex-grow-1")
                html.Span("{{ s.percent }} % sure", classes="sofa-number text-medium-emphasis")
        _attention()


def _attention() -> None:
    """Build the chart: a bar per sub-region, divided among the sequences."""
    with html.Div(v_if=("attention.length",), classes="mt-3", raw_attrs=['data-test="attention"']):
        html.H3("What it relied on", classes="text-subtitle-2 mb-1")
        with html.Div(v_for="a in attention", key="a.title", classes="mb-2"):
            html.Div("{{ a.title }}", classes="text-caption")
            with html.Div(
                classes="sofa-bar",
                raw_attrs=[
                    'role="img"',
                    ":aria-label=\"a.title + ': ' + a.weights.map((w) => `${w.title} ${w.percent} %`).join(', ')\"",
                ],
            ):
                html.Span(
                    "{{ w.percent >= 12 ? w.percent : '' }}",
                    v_for="w in a.weights",
                    key="w.title",
                    title=("`${w.title} ${w.percent} %`",),
                    style=("{ flexGrow: w.percent, background: sequence_colours[w.title] }",),
                )
        with html.Div(classes="d-flex ga-3 text-caption"):
            with html.Span(v_for="w in attention[0].weights", key="w.title"):
                html.Span(classes="sofa-swatch", style=("{ background: sequence_colours[w.title] }",))
                html.Span("{{ w.title }}")
