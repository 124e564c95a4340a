"""A line per sub-region: colour, volume, lock, boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trame.widgets import html
from trame.widgets import vuetify3 as v

if TYPE_CHECKING:
    from sofa_web.page import Page


def sub_regions_section(page: Page) -> None:
    """Build the table of volumes."""
    with html.Table(classes="sofa-regions", raw_attrs=['aria-label="Sub-regions"']):
        with html.Thead(), html.Tr():
            html.Th("Sub-region", raw_attrs=['scope="col"'])
            html.Th("ml", classes="sofa-number", raw_attrs=['scope="col"'])
            html.Th("Box", raw_attrs=['scope="col"', 'colspan="2"'])
        with html.Tbody():
            with html.Tr(v_for="r in regions", key="r.key"):
                with html.Th(raw_attrs=['scope="row"']):
                    html.Span(classes="sofa-swatch", style=("{ background: r.colour }",))
                    html.Span("{{ r.title }}")
                html.Td("{{ r.ml }}", classes="sofa-number", raw_attrs=[':data-test="`volume-${r.key}`"'])
                with html.Td():
                    v.VBtn(
                        icon=("r.locked ? 'mdi-lock' : 'mdi-lock-open-variant-outline'",),
                        size="x-small",
                        variant="text",
                        color=("r.locked ? 'primary' : undefined",),
                        disabled=("phase !== 'ready'",),
                        click=(page.boxes.toggle_lock, "[r.key]"),
                        raw_attrs=[
                            ":aria-label=\"`${r.locked ? 'Unlock' : 'Lock'} ${r.title}`\"",
                            ':aria-pressed="r.locked"',
                            ":title=\"`${r.locked ? 'Unlock' : 'Lock'} ${r.title}`\"",
                        ],
                    )
                with html.Td():
                    _menu(page)
            with html.Tr(v_for="t in totals", key="t.title", classes="text-medium-emphasis"):
                html.Th("{{ t.title }}", raw_attrs=['scope="row"'])
                html.Td("{{ t.ml }}", classes="sofa-number")
                html.Td(raw_attrs=['colspan="2"'])


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
        ("Add a box", "mdi-plus-box-outline", page.boxes.add, "true"),
        ("Delete a box", "mdi-minus-box-outline", page.boxes.delete, "r.boxes"),
        ("Back to the first box", "mdi-restore", page.boxes.reset, "true"),
        ("A box per lesion", "mdi-select-group", page.boxes.split, "r.boxes"),
    ):
        v.VListItem(title=title, prepend_icon=icon, disabled=(f"!({allowed})",), click=(verb, "[r.key]"))
