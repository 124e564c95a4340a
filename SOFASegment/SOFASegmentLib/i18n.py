"""Texts in the user's language: Slicer's translations in Slicer, English where there is no Slicer application.

`tr` is Slicer's own function, which takes the context of a text from the file that calls it, so it must be called where
the text stands and not through another function. Qt is only asked on the main thread.
"""

from __future__ import annotations

try:
    from slicer.i18n import tr
except ImportError:  # slicer-core has no translations; the browser face and the tests run on it

    def tr(text: str) -> str:
        """Return the text as it is."""
        return text


__all__ = ["tr"]
