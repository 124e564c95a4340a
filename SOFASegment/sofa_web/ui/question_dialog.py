"""The question that is asked before work is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trame.widgets import vuetify3 as v

if TYPE_CHECKING:
    from sofa_web.page import Page


def question_dialog(page: Page) -> None:
    """Build the dialog; `assets/sofa.js` gives Cancel the focus, so that no key goes on by itself."""
    with (
        v.VDialog(v_model=("question_open",), max_width=440, classes="sofa-question"),
        v.VCard(title=("question_title",), text=("question",), raw_attrs=['data-test="question"']),
        v.VCardActions(),
    ):
        v.VSpacer()
        v.VBtn("Cancel", variant="tonal", click="question_open = false", raw_attrs=["data-sofa-cancel"])
        v.VBtn(
            "{{ question_yes }}",
            color="warning",
            click=page.question.go_on,
            raw_attrs=[':data-sofa-go-on="question_about"'],
        )
