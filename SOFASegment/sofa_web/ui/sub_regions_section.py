"""A line per sub-region: colour, volume, lock, boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trame.widgets import html
from trame.widgets import vuetify3 as v

if TYPE_CHECKING:
    from collections.abc import Callable

    from sofa_web.page import Page


def sub_regions_section(page: Page) -> None:
    """Build the table of volumes."""
    with html.Table(classes="sofa-regions", raw_attrs=['aria-label="Sub-regions"']):
        with html.Thead(), html.Tr():
            html.Th("Sub-region", raw_attrs=['scope="col"'])
            html.Th("ml", classes="sofa-number", raw_attrs=['scope="col"'])
            html.Th("Box", raw_attrs=['scope="col"', 'colspan="3"'])
        with html.Tbody():
            with html.Tr(v_for="r in regions", key="r.key"):
                with html.Th(raw_attrs=['scope="row"']):
                    html.Span(classes="sofa-swatch", style=("{ background: r.colour }",))
                    html.Span("{{ r.title }}")
                html.Td("{{ r.ml }}", classes="sofa-number", raw_attrs=[':data-test="`volume-${r.key}`"'])
                with html.Td():
                    _toggle("r.shown", "eye", "Hide the box of", "Show the box of", page.boxes.toggle_shown, "r.boxes")
                with html.Td():
                    _toggle("r.locked", "lock", "Unlock", "Lock", page.boxes.toggle_lock, "phase === 'ready'")
                with html.Td():
                    _menu(page)
            with html.Tr(v_for="t in totals", key="t.title", classes="text-medium-emphasis"):
                html.Th("{{ t.title }}", raw_attrs=['scope="row"'])
                html.Td("{{ t.ml }}", classes="sofa-number")
                html.Td(raw_attrs=['colspan="3"'])


def _toggle(state: str, icon: str, on: str, off: str, verb: Callable[..., object], allowed: str) -> None:
    """Build a button of the line `r` that shows a state and changes it; `on` and `off` say what pressing does.

    They change with the state, so that it must not be called pressed besides: "Unlock, pressed" says both.
    """
    icons = {"eye": ("mdi-eye-outline", "mdi-eye-off-outline"), "lock": ("mdi-lock", "mdi-lock-open-variant-outline")}
    label = f"`${{{state} ? '{on}' : '{off}'}} ${{r.title}}`"
    v.VBtn(
        icon=(f"{state} ? '{icons[icon][0]}' : '{icons[icon][1]}'",),
        size="x-small",
        variant="text",
        color=(f"{state} ? 'primary' : undefined",) if icon == "lock" else None,
        disabled=(f"!({allowed})",),
        click=(verb, "[r.key]"),
        raw_attrs=[f':aria-label="{label}"', f':title="{label}"'],
    )


def _menu(page: Page) -> None:
    """Build the menu of what can be done to the boxes of the line `r`."""
    with v.VBtn(
        icon=True,
        size="x-small",
        variant="text",
        disabled=("phase !== 'ready' || r.locked",),
        raw_attrs=[':aria-label="`Boxes of ${r.title}`"', ':title="`Boxes of ${r.title}`"'],
    ):
        v.VIcon("mdi-dots-vertical")
        with v.VMenu(activator="parent"), v.VList(density="compact"):
            _menu_items(page)


def _menu_items(page: Page) -> None:
    for title, icon, verb, allowed in (
        ("Add a box here", "mdi-plus-box-outline", page.boxes.add, "true"),
        ("Delete the box", "mdi-minus-box-outline", page.boxes.delete, "r.boxes"),
        ("Place the box by numbers", "mdi-arrow-expand-horizontal", page.place_box.begin, "r.boxes"),
        ("Back to the first box", "mdi-restore", page.boxes.reset, "true"),
        ("A box per lesion", "mdi-select-group", page.boxes.split, "r.boxes"),
    ):
        v.VListItem(title=title, prepend_icon=icon, disabled=(f"!({allowed})",), click=(verb, "[r.key]"))
