"""The page: bar, drawer with the sections, and the views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import client, html
from trame.widgets import vuetify3 as v

from sofa_web.ui.case_section import UPLOADING, browse_dialog, case_section
from sofa_web.ui.display_section import display_section
from sofa_web.ui.export_section import export_section
from sofa_web.ui.judge_section import judge_section
from sofa_web.ui.keys_dialog import keys_dialog
from sofa_web.ui.place_box_dialog import place_box_dialog
from sofa_web.ui.question_dialog import question_dialog
from sofa_web.ui.segment_section import segment_section
from sofa_web.ui.sub_regions_section import sub_regions_section
from sofa_web.views import LAYOUTS, VIEW_TEMPLATES

if TYPE_CHECKING:
    from trame_server import Server

    from sofa_web.page import Page

_LAYOUT_ICONS = {
    "four": "mdi-view-grid-outline",
    "axial": "mdi-alpha-a-box-outline",
    "coronal": "mdi-alpha-c-box-outline",
    "sagittal": "mdi-alpha-s-box-outline",
    "threed": "mdi-cube-outline",
}


def build_page(page: Page, server: Server) -> None:
    """Build everything that the browser shows."""
    with VAppLayout(server) as layout:
        layout.root.theme = ("theme",)
        _bar(page)
        with v.VNavigationDrawer(v_model=("drawer_open",), width=356, classes="sofa-drawer"):
            case_section(page)
            segment_section(page)
            sub_regions_section(page)
            with v.VExpansionPanels(
                variant="accordion", multiple=True, flat=True, v_model=("open_panels",), classes="sofa-panels"
            ):
                judge_section(page)
                display_section(page)
                export_section()
            html.P(
                "For research only, not a medical device. {{ model ? 'Model: ' + model + '.' : '' }}",
                classes="text-caption text-medium-emphasis pa-4",
            )
        browse_dialog(page)
        keys_dialog()
        question_dialog(page)
        place_box_dialog()
        with v.VMain(classes="sofa-main"):
            _views()
            _empty_hint(page)
            _messages()


def _bar(page: Page) -> None:
    with v.VAppBar(density="compact", flat=True, border="b"):
        v.VAppBarNavIcon(click="drawer_open = !drawer_open", raw_attrs=['aria-label="Show or hide the panel"'])
        html.Span("SOFA", classes="sofa-brand")
        html.Span("{{ case_name }}", classes="sofa-case-name text-medium-emphasis")
        v.VSpacer()
        _icon_button("mdi-undo", "Undo (Ctrl+Z)", page.segment.undo, disabled=("!can_undo",))
        _icon_button("mdi-redo", "Redo (Ctrl+Y)", page.segment.redo, disabled=("!can_redo",))
        v.VDivider(vertical=True, inset=True, classes="mx-1")
        with v.VBtnToggle(
            v_model=("layout",), mandatory=True, density="compact", variant="text", classes="sofa-layouts"
        ):
            for name, title in LAYOUTS.items():
                v.VBtn(
                    icon=_LAYOUT_ICONS[name],
                    value=name,
                    size="small",
                    raw_attrs=[f'aria-label="{title}"', f'title="{title}"'],
                )
        v.VDivider(vertical=True, inset=True, classes="mx-1")
        _icon_button("mdi-keyboard-outline", "Mouse and keyboard (?)", "keys_open = true")
        _icon_button("mdi-theme-light-dark", "Dark or light", "theme = theme === 'dark' ? 'light' : 'dark'")


def _icon_button(icon: str, title: str, click: object, **more: object) -> None:
    v.VBtn(icon=icon, size="small", click=click, raw_attrs=[f'aria-label="{title}"', f'title="{title}"'], **more)


def _views() -> None:
    """Lay the views out in two rows; a single one covers the others, which keep their size."""
    with html.Div(classes="sofa-views"):
        for name, template in VIEW_TEMPLATES.items():
            with html.Div(
                classes=(
                    f"{{ 'sofa-alone': layout === '{name}', 'sofa-covered': !['four', '{name}'].includes(layout) }}",
                )
            ):
                client.ServerTemplate(name=template)


def _empty_hint(page: Page) -> None:
    """Say what to do where there is nothing to see yet."""
    with html.Div(v_if=("!case_name",), classes="sofa-empty"):
        with html.Div(v_if=("opening",), classes="text-center"):
            v.VProgressCircular(indeterminate=True, size=36)
            html.P(UPLOADING, v_if=("upload_percent !== null",), classes="mt-3")
            html.P("Reading the volumes…", v_else=True, classes="mt-3")
        with html.Div(v_else=True, classes="text-center"):
            html.H1("Segment a brain tumour", classes="text-h6")
            html.P("Open the T1, T1c, T2 and FLAIR of one patient; one is enough to begin.", classes="mb-4")
            v.VBtn(
                "Open from the server",
                v_if=("browse_allowed",),
                prepend_icon="mdi-folder-open-outline",
                color="primary",
                classes="ma-1",
                click=(page.case.browse, "['']"),
            )
            v.VBtn(
                "Upload files",
                prepend_icon="mdi-upload",
                variant="outlined",
                classes="ma-1",
                raw_attrs=['data-sofa-upload="files"'],
            )
            v.VBtn(
                "Upload a folder",
                prepend_icon="mdi-folder-upload-outline",
                variant="outlined",
                classes="ma-1",
                raw_attrs=['data-sofa-upload="folder"'],
            )


def _messages() -> None:
    """Show what went wrong over the views, where the user looks, until it is read."""
    with html.Div(classes="sofa-messages", raw_attrs=['aria-live="assertive"']):
        v.VAlert(
            v_if=("failure",),
            text=("failure",),
            type="error",
            density="compact",
            closable=True,
            elevation=6,
            click_close="failure = ''",
        )
    with html.Div(v_if=("phase === 'running' || working",), classes="sofa-working", raw_attrs=['aria-hidden="true"']):
        v.VProgressLinear(indeterminate=("fraction === 0",), model_value=("fraction",), height=3, color="primary")
