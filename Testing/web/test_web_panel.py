"""What the panel's buttons are called to those who do not see them."""

from __future__ import annotations

import re
from unittest.mock import MagicMock

from trame.app import get_server
from trame.ui.vuetify3 import VAppLayout

from sofa_web.ui.sub_regions_section import sub_regions_section


def test_a_button_whose_label_changes_is_not_called_pressed_besides():
    page = MagicMock()
    for verb in ("toggle_shown", "toggle_lock", "add", "delete", "reset", "split"):
        setattr(page.boxes, verb, lambda _key: None)
    page.place_box.begin = lambda _key: None
    with VAppLayout(get_server("panel", client_type="vue3")) as layout:
        sub_regions_section(page)
    buttons = re.findall(r"<VBtn[^>]*'Unlock'[^>]*>|<VBtn[^>]*'Hide the box of'[^>]*>", layout.html)
    assert len(buttons) == 2
    assert not any("aria-pressed" in button for button in buttons)
