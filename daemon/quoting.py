"""Somebody's own words (a subject, a name, an address) within a sentence of ours."""

from __future__ import annotations

import re

MAX_SHOWN = 120  # characters

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def in_code(foreign: object) -> str:
    """On one line, cut, and as code: no reader of Markdown makes anything of it."""
    text = _CONTROL.sub(" ", str(foreign)).replace("`", "'")
    return f"`{text[:MAX_SHOWN]}`"
