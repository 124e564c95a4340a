"""The case that is open, and the ways to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trame.widgets import html
from trame.widgets import vuetify3 as v

if TYPE_CHECKING:
    from sofa_web.page import Page

#: What is said while an upload is on its way, and how far it is.
UPLOADING = "Uploading: {{ upload_percent }} %"


def case_section(page: Page) -> None:
    """Build the head of the drawer."""
    with html.Div(classes="pa-4 pb-2"):
        with html.Div(classes="d-flex ga-2"):
            v.VBtn(
                "Open",
                v_if=("browse_allowed",),
                prepend_icon="mdi-folder-open-outline",
                variant="tonal",
                size="small",
                disabled=("opening || phase === 'running'",),
                click=(page.case.browse, "[browse_path]"),
            )
            v.VBtn(
                "Upload",
                prepend_icon="mdi-upload",
                variant="tonal",
                size="small",
                disabled=("opening || phase === 'running'",),
                loading=("opening",),
                raw_attrs=['data-sofa-upload="files"'],
            )
            v.VBtn(
                "Folder",
                prepend_icon="mdi-folder-upload-outline",
                variant="tonal",
                size="small",
                disabled=("opening || phase === 'running'",),
                raw_attrs=['data-sofa-upload="folder"', 'aria-label="Upload a folder"', 'title="Upload a folder"'],
            )
        html.P(
            UPLOADING,
            v_if=("upload_percent !== null",),
            classes="text-caption mt-2",
            raw_attrs=['role="status"', 'data-test="upload"'],
        )
        html.P(
            "{{ grid_sentence }}",
            v_if=("grid_sentence",),
            classes="text-caption text-medium-emphasis mt-2",
            title=("case_notes.join('\\n')",),
        )
        with html.Div(v_if=("case_name",), classes="d-flex ga-2 mt-1"):
            v.VBtn(
                "Align",
                v_if=("can_align",),
                size="small",
                color="primary",
                prepend_icon="mdi-axis-arrow",
                click=page.case.align,
            )
            v.VBtn(
                "Sequences",
                size="small",
                variant="text",
                append_icon=("sequences_open ? 'mdi-chevron-up' : 'mdi-chevron-down'",),
                classes="px-1",
                click="sequences_open = !sequences_open",
                raw_attrs=[':aria-expanded="sequences_open"'],
            )
        _sequences(page)
        with html.Ul(v_if=("case_notes.some((n) => n.endsWith('not found'))",), classes="text-caption sofa-notes"):
            html.Li(
                "{{ note }}",
                v_for="note in case_notes.filter((n) => n.endsWith('not found'))",
                key="note",
            )


def _sequences(page: Page) -> None:
    """Build the selectors that say which volume is which sequence."""
    with html.Div(v_if=("sequences_open && case_name",), classes="mt-2"):
        v.VSelect(
            v_for="s in sequences",
            key="s.key",
            model_value=("s.node",),
            items=("candidates",),
            label=("s.title",),
            clearable=True,
            density="compact",
            hide_details=True,
            variant="outlined",
            classes="mb-2",
            disabled=("phase === 'running'",),
            update_modelValue=(page.case.choose, "[s.key, $event]"),
        )


def browse_dialog(page: Page) -> None:
    """Build the dialog that lists the server's folder."""
    with (
        v.VDialog(v_model=("browse_open",), max_width=560, scrollable=True),
        v.VCard(raw_attrs=['aria-label="Open a case from the server"']),
    ):
        v.VCardTitle("Open a case from the server")
        v.VCardSubtitle("/{{ browse_path }}")
        with v.VCardText(classes="pa-0", style="height: 50vh"):
            v.VAlert(v_if=("browse_failure",), text=("browse_failure",), type="error", density="compact", tile=True)
            with v.VList(density="compact"):
                v.VListItem(
                    title="..",
                    prepend_icon="mdi-arrow-up",
                    v_if=("browse_path",),
                    click=page.case.browse_up,
                )
                v.VListItem(
                    v_for="folder in browse_folders",
                    key="folder",
                    title=("folder",),
                    prepend_icon="mdi-folder-outline",
                    click=(page.case.browse_into, "[folder]"),
                )
            html.P(
                "There are no folders in this one.",
                v_if=("!browse_folders.length",),
                classes="text-medium-emphasis px-4",
            )
        with v.VCardActions():
            html.Span(
                "{{ browse_volumes ? browse_volumes + ' volumes here' : 'No volumes here' }}",
                classes="text-caption text-medium-emphasis px-2",
            )
            v.VSpacer()
            v.VBtn("Cancel", click="browse_open = false")
            v.VBtn(
                "Open this folder", color="primary", variant="flat", loading=("opening",), click=page.case.open_browsed
            )
