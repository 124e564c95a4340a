"""What a visitor makes the views show: sequences, window, segments, crosshair, layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from web_tools import Server, until
from web_visit import Visit

#: Oedema's colour, as `SOFASegmentLib.appearance` has it.
GREEN = (51, 191, 89)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server]) -> Server:
    return start_server()


@pytest.fixture(scope="module")
def guest(browser: Any, server: Server) -> Iterator[Visit]:
    """A visitor whose case is segmented and who sees the axial view alone; every test leaves it as it was."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    guest = Visit(context.new_page(), server)
    guest.segment()
    guest.open_panel("Display")
    guest.show_only("Axial")
    yield guest
    assert guest.errors == []
    context.close()


def brightness(picture: np.ndarray) -> float:
    return float(picture.astype(float).mean())


def green_share(picture: np.ndarray) -> float:
    """Share of pixels in which green outweighs red and blue."""
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return float(((green > red + 25) & (green > blue + 25)).mean())


def greenness(picture: np.ndarray) -> float:
    """How far green outweighs red and blue, mean over pixels."""
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return float(np.clip(green - np.maximum(red, blue), 0, None).mean())


def test_each_of_the_four_sequences_can_be_looked_at(guest):
    seen = guest.quiet_picture()
    for title in ("T1", "T2", "FLAIR"):
        guest.choose("Background", title)
        other = guest.await_other_picture(seen)
        seen = other
    guest.choose("Background", "T1c")
    guest.await_other_picture(seen)


def test_a_second_sequence_lies_over_the_first_as_strongly_as_wished(guest):
    alone = guest.quiet_picture()
    guest.choose("Over it", "FLAIR")
    half = guest.await_other_picture(alone)
    strength = guest.slider("Opacity of what lies over it")
    strength.press("End")
    covered = guest.await_other_picture(half)
    assert np.abs(covered.astype(int) - alone).mean() > np.abs(half.astype(int) - alone).mean()
    strength.press("Home")
    guest.await_other_picture(covered)
    guest.page.get_by_role("button", name="Clear Over it").click()
    until(lambda: guest.state("foreground") is None)
    assert np.abs(guest.quiet_picture().astype(int) - alone).mean() < 1


def test_the_window_makes_the_picture_brighter_and_darker(guest):
    seen = guest.quiet_picture()
    low, high = (guest.slider("Window, lowest and highest grey value").nth(n) for n in (0, 1))
    before = float(high.get_attribute("aria-valuenow"))
    for _ in range(8):
        high.press("PageDown")
    brighter = guest.await_picture(lambda now: brightness(now) > brightness(seen) + 2)
    assert float(high.get_attribute("aria-valuenow")) < before
    for _ in range(3):
        low.press("PageUp")
    guest.await_picture(lambda now: brightness(now) < brightness(brighter) - 2)
    guest.choose("Background", "T2")
    guest.choose("Background", "T1c")


def test_segments_are_filled_as_strongly_as_wished_and_outlined(guest):
    seen = guest.quiet_picture()
    fill = guest.slider("Opacity of the segments")
    fill.press("End")
    guest.await_picture(lambda now: greenness(now) > 1.3 * greenness(seen))
    fill.press("Home")
    lines = guest.await_picture(lambda now: green_share(now) < 0.5 * green_share(seen))
    guest.page.get_by_label("Outline of the segments").click()
    guest.await_picture(lambda now: green_share(now) < 0.8 * green_share(lines))
    guest.page.get_by_label("Outline of the segments").click()
    for _ in range(7):
        fill.press("ArrowRight")


def test_segments_are_surfaces_in_3d(guest):
    guest.show_only("3D")
    seen = guest.quiet_picture()
    assert green_share(seen) > 0.05
    guest.page.get_by_label("Surfaces in 3D").click()
    guest.await_picture(lambda now: green_share(now) < 0.5 * green_share(seen))
    guest.page.get_by_label("Surfaces in 3D").click()
    guest.await_picture(lambda now: green_share(now) > 0.9 * green_share(seen))
    guest.show_only("Axial")


def test_with_shift_the_mouse_turns_the_other_views_to_where_it_points(guest):
    guest.show_only("Four views")
    guest.quiet_picture()
    before = {view: guest.position(view) for view in ("Axial", "Coronal", "Sagittal")}
    area = guest.page.locator(".sofa-views").bounding_box()
    guest.page.keyboard.down("Shift")
    for step in range(6):
        guest.page.mouse.move(area["x"] + 100 + 6 * step, area["y"] + 110 + 4 * step)
        guest.page.wait_for_timeout(60)
    guest.page.keyboard.up("Shift")
    guest.await_other_position("Coronal", before["Coronal"])
    guest.await_other_position("Sagittal", before["Sagittal"])
    assert guest.position("Axial") == before["Axial"]
    guest.show_only("Axial")


def test_the_crosshair_shows_where_the_other_slices_lie_and_can_be_switched_off(guest):
    guest.show_only("Four views")
    seen = guest.quiet_picture()
    half = seen.shape[0] // 2, seen.shape[1] // 2
    guest.slider("Coronal slice position in millimetres").press("End")
    moved = guest.await_other_picture(seen)
    assert np.any(moved[: half[0], : half[1]] != seen[: half[0], : half[1]])  # a line in the axial view
    guest.page.get_by_label("Crosshair (Shift and mouse)").click()
    off = guest.await_other_picture(moved)
    assert np.any(off[: half[0], : half[1]] != moved[: half[0], : half[1]])
    guest.page.get_by_label("Crosshair (Shift and mouse)").click()
    guest.show_only("Axial")


def test_the_wheel_goes_through_the_slices(guest):
    before = guest.position("Axial")
    area = guest.page.locator(".sofa-views").bounding_box()
    guest.page.mouse.move(area["x"] + 60, area["y"] + 200)
    guest.page.mouse.wheel(0, 120)
    guest.await_other_position("Axial", before)


def test_boxes_are_hidden_and_shown_all_at_once_and_one_by_one(guest):
    seen = guest.quiet_picture()
    guest.button("Hide the box of Oedema").click()
    without = guest.await_other_picture(seen)
    guest.button("Show the box of Oedema").click()
    guest.await_other_picture(without)
    guest.page.locator(".sofa-brand").click()
    guest.page.keyboard.press("b")
    for region in ("Necrotic core", "Oedema", "Enhancing tumour"):
        guest.button(f"Show the box of {region}").wait_for()
    guest.page.keyboard.press("b")
    guest.button("Hide the box of Oedema").wait_for()
