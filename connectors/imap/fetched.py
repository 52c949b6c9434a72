"""Reading FETCH responses: pure, from the wire's lines and literals to values by uid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

Chunk = bytes | bytearray  # a line is bytes, a literal is a bytearray

_TOKEN = re.compile(rb'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|\{\d+\}$|((?:\[[^\]]*\]|[^\s()"])+))')
_HEAD = re.compile(rb"\d+ FETCH ")
_MONTHS = b"JanFebMarAprMayJunJulAugSepOctNovDec"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a FETCH told of one mail. `arrived` is INTERNALDATE in seconds since the epoch; `body`
    is whichever BODY section was asked for.
    """

    uid: int
    flags: frozenset[str] = frozenset()
    size: int = 0
    arrived: float | None = None
    body: Chunk | None = None


def read_fetches(chunks: Sequence[Chunk]) -> dict[int, Fetched]:
    """The answers by uid. Answers without a uid (news of flags) are left out."""
    found: dict[int, Fetched] = {}
    for response in _responses(chunks):
        one = _read(response)
        if one is not None:
            found[one.uid] = one
    return found


def _responses(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """Split the flat list: a response is a head line, then literal and line by turns."""
    current: list[Chunk] = []
    for chunk in chunks:
        goes_on = isinstance(chunk, bytearray) or (
            current and isinstance(current[-1], bytearray)  # what follows a literal is its own
        )
        if not goes_on:
            if current:
                yield current
            current = []
        if current or (isinstance(chunk, bytes) and _HEAD.match(chunk)):
            current.append(chunk)
    if current:
        yield current


def _tokens(response: list[Chunk]) -> Iterator[object]:
    """Parentheses as str, a quoted string or a literal as a bytearray, an atom as bytes."""
    for chunk in response:
        if isinstance(chunk, bytearray):
            yield chunk
            continue
        head = _HEAD.match(chunk)
        position = head.end() if head and chunk is response[0] else 0
        while match := _TOKEN.match(chunk, position):
            position = match.end()
            if match[1] or match[2]:
                yield "(" if match[1] else ")"
            elif match[3] is not None:
                yield bytearray(re.sub(rb"\\(.)", rb"\1", match[3]))
            elif match[4] is not None:
                yield match[4]


def _read(response: list[Chunk]) -> Fetched | None:
    tokens = list(_tokens(response))
    uid, size, arrived = 0, 0, None
    flags: frozenset[str] = frozenset()
    body: Chunk | None = None
    for index, token in enumerate(tokens[:-1]):
        if not isinstance(token, bytes):
            continue
        name, value = token.upper(), tokens[index + 1]
        if name == b"UID" and isinstance(value, bytes) and value.isdigit():
            uid = int(value)
        elif name == b"RFC822.SIZE" and isinstance(value, bytes) and value.isdigit():
            size = int(value)
        elif name == b"FLAGS" and value == "(":
            flags = _flags(tokens[index + 2 :])
        elif name == b"INTERNALDATE" and isinstance(value, bytearray):
            arrived = _moment(value)
        elif name.startswith(b"BODY[") and body is None:
            body = value if isinstance(value, bytearray) else bytearray()  # NIL: empty
    return Fetched(uid, flags, size, arrived, body) if uid else None


def _flags(tokens: list[object]) -> frozenset[str]:
    found = []
    for token in tokens:
        if not isinstance(token, bytes):
            break
        found.append(token.decode("ascii", "replace"))
    return frozenset(found)


def _moment(value: bytearray) -> float | None:
    """RFC 3501 date-time: English month names, whatever the daemon's locale."""
    day, _, rest = bytes(value).strip().partition(b"-")  # " 1-Feb-2026": padded with a space
    month = _MONTHS.find(rest[:3]) if rest[3:4] == b"-" else -1
    if month < 0 or month % 3:
        return None
    numeric = day + b"-%d" % (month // 3 + 1) + rest[3:]
    try:
        return datetime.strptime(numeric.decode("ascii"), "%d-%m-%Y %H:%M:%S %z").timestamp()
    except ValueError:
        return None
