"""Cutting a long Markdown text where a reader would: paragraph, list item, line, word.

A code fence that is cut is closed, and opened again in the next piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_ITEM = re.compile(r"\s{0,8}(?:[-*+]|\d{1,9}[.)])\s")
_ENOUGH = 0.5  # a cut that leaves a piece shorter than this share of the limit comes too early


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the text. The pieces' `text`, joined, is the whole; `whole` is what is sent."""

    text: str
    opener: str = ""
    closer: str = ""

    @property
    def whole(self) -> str:
        return f"{self.opener}{self.text}{self.closer}"


@dataclass(frozen=True, slots=True)
class _Fence:
    mark: str
    line: str


def length(text: str) -> int:
    """Characters as JavaScript counts them (UTF-16): never fewer than any other way of counting."""
    return len(text) + sum(ord(char) > 0xFFFF for char in text)


def split(text: str, limit: int) -> list[Piece]:
    """Pieces of at most `limit` characters each, `opener` and `closer` included."""
    pieces: list[Piece] = []
    fence: _Fence | None = None
    while text:
        opener = f"{fence.line}\n" if fence else ""
        room = limit - length(opener)
        if length(text) <= room:
            pieces.append(Piece(text, opener))
            break
        cut = _cut(text, fence, room)
        taken, text = text[:cut], text[cut:]
        fence = _fence_after(taken, fence)
        closer = ""
        if fence:
            closer = fence.mark if taken.endswith("\n") else f"\n{fence.mark}"
        pieces.append(Piece(taken, opener, closer))
    return pieces


def _cut(text: str, fence: _Fence | None, room: int) -> int:
    """Where to cut: the last place of the best kind that is not too early."""
    best: dict[int, int] = {}
    for at, kind, needed in _places(text, fence):
        if needed > room:
            break
        best[kind] = at
    for kind in sorted(best):
        if best[kind] >= room * _ENOUGH or kind == max(best):
            return best[kind]
    return _within_line(text, fence, room)


def _places(text: str, fence: _Fence | None) -> Iterator[tuple[int, int, int]]:
    """Line ends as (offset, kind, characters needed with the closer): 0 between paragraphs,
    1 before a list item, 2 any other line outside a fence, 3 within a fence.
    """
    at, size = 0, 0
    lines = _lines(text)
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        at, size = at + len(line), size + length(line)
        fence = _step(line, fence)
        closer = len(fence.mark) + 1 if fence else 0
        if fence:
            kind = 3
        elif not line.strip() or not following.strip():
            kind = 0
        else:
            kind = 1 if _ITEM.match(following) else 2
        yield at, kind, size + closer


def _lines(text: str) -> list[str]:
    """Lines with their ends; only a line feed ends one, as in Slack."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _within_line(text: str, fence: _Fence | None, room: int) -> int:
    """No line end fits: a word's end, else anywhere."""
    room -= len(fence.mark) + 1 if fence else 0
    end, size = 0, 0
    for char in text:
        size += 2 if ord(char) > 0xFFFF else 1
        if size > room:
            break
        end += 1
    space = text.rfind(" ", 0, end) + 1
    return max(space if space >= end * _ENOUGH else end, 1)


def _step(line: str, fence: _Fence | None) -> _Fence | None:
    """The open fence after a line (CommonMark 0.31, section 4.5)."""
    match = _FENCE.fullmatch(line.rstrip("\r\n"))
    if match is None:
        return fence
    mark, info = match[1], match[2]
    if fence is None:
        tick = mark[0] == "`" and "`" in info
        return None if tick or len(line) > 200 else _Fence(mark, line.strip())
    closes = mark[0] == fence.mark[0] and len(mark) >= len(fence.mark) and not info.strip()
    return None if closes else fence


def _fence_after(text: str, fence: _Fence | None) -> _Fence | None:
    for line in _lines(text):
        fence = _step(line, fence)
    return fence
