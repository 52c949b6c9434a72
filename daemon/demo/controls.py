"""What a test or a checker does to the stand-in model: faults, gates, and the journal it reads."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

from daemon.demo.script import Ask

FaultKind = Literal["status", "hang", "stall", "cut", "malformed"]
Where = Literal["headers", "stream"]


@dataclass(frozen=True, slots=True)
class Fault:
    """How requests go wrong: the next `times` that match, or all until cleared when it is None.

    `status` answers that status; `hang` sends no headers; `stall` stops after the first piece of
    the answer; `cut` closes the connection there; `malformed` writes what is no JSON there and ends
    the stream. The last three leave requests that do not stream alone.
    """

    kind: FaultKind = "status"
    status: int = 529
    retry_after: int | None = None
    """Seconds, sent as the `retry-after` header."""
    times: int | None = 1
    text: str = ""
    """Only requests with this in their last prompt."""
    tool_results: int | None = None
    """Only requests with so many results of tools after it."""

    def fits(self, entry: Entry) -> bool:
        streams = bool(entry.body.get("stream"))
        at_hand = self.tool_results in {None, len(entry.ask.results)}
        asked = at_hand and self.text in entry.ask.prompt
        return asked and (streams or self.kind in {"status", "hang"})


class Faults:
    """The faults in force, the oldest first."""

    def __init__(self) -> None:
        self.waiting: list[Fault] = []
        self._cleared = asyncio.Event()
        self._stuck = asyncio.Event()

    def add(self, fault: Fault) -> None:
        self.waiting.append(fault)

    def take(self, entry: Entry) -> Fault | None:
        """The first fault that fits this request; it is used up by one."""
        for index, fault in enumerate(self.waiting):
            if not fault.fits(entry):
                continue
            if fault.times is not None:
                left = replace(fault, times=fault.times - 1)
                self.waiting[index : index + 1] = [left] if left.times else []
            return fault
        return None

    def clear(self) -> None:
        """Forget all faults; requests that hang or stall end, with their connection closed."""
        self.waiting.clear()
        self._cleared.set()
        self._cleared = asyncio.Event()
        self._stuck = asyncio.Event()

    async def stuck(self, seconds: float = 30.0) -> None:
        """Until a request hangs or stalls. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            await self._stuck.wait()

    async def until_cleared(self) -> None:
        self._stuck.set()
        await self._cleared.wait()


class Gate:
    """Holds the requests that match, before their headers or after the answer's first piece.

    A test awaits `arrived()`, does what it wants to do in that state, and calls `release()`.
    """

    def __init__(self, text: str, where: Where, tool_results: int | None) -> None:
        self.text, self.where, self.tool_results = text, where, tool_results
        self._open = asyncio.Event()
        self._arrived = asyncio.Event()
        self._entry: Entry | None = None

    @property
    def released(self) -> bool:
        return self._open.is_set()

    def fits(self, entry: Entry, where: Where) -> bool:
        results = len(entry.ask.results)
        return (
            self.where == where
            and not self.released
            and self.text in entry.ask.prompt
            and self.tool_results in {None, results}
        )

    async def arrived(self, seconds: float = 30.0) -> Entry:
        """The first request that is held here. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            await self._arrived.wait()
        if self._entry is None:
            raise AssertionError("a gate is marked as reached with its entry")
        return self._entry

    def release(self) -> None:
        """Let those held go on, and all later ones pass."""
        self._open.set()

    async def hold(self, entry: Entry) -> None:
        self._entry = self._entry or entry
        self._arrived.set()
        await self._open.wait()

    def describe(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "where": self.where,
            "tool_results": self.tool_results,
            "arrived": self._arrived.is_set(),
            "released": self.released,
        }


@dataclass(slots=True, eq=False)
class Entry:
    """One request in the journal. `outcome` changes once, when its answer has ended:

    `finished`, `cut by the client`, `cut by the model`, `malformed`, or `status N` for an error.
    """

    number: int
    path: str
    query: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    ask: Ask
    at: float = field(default_factory=time.time)
    """Seconds since 1970."""
    outcome: str = "open"
    usage: Mapping[str, int] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def describe(self, *, bodies: bool) -> dict[str, Any]:
        """The entry as JSON; header names in lower case."""
        said = {
            "number": self.number,
            "at": self.at,
            "path": self.path,
            "query": self.query,
            "headers": dict(self.headers),
            "texts": list(self.ask.texts),
            "tool_results": [result.text for result in self.ask.results],
            "outcome": self.outcome,
            "usage": dict(self.usage),
        }
        return {**said, "body": self.body} if bodies else said


class Journal:
    """Every request, in the order of arrival; also as JSON lines in a file, if one is given.

    The file has two lines a request: one `"kind": "request"` on arrival, and one `"kind": "end"`
    with `number`, `outcome` and `at`. With `bodies` off, bodies go once a request has ended.
    """

    def __init__(self, file: Path | None, *, bodies: bool = True) -> None:
        self.entries: list[Entry] = []
        self._bodies = bodies
        self._changed = asyncio.Condition()
        self._file: IO[str] | None = file.open("a", encoding="utf-8", buffering=1) if file else None

    async def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._write({"kind": "request", **entry.describe(bodies=self._bodies)})
        async with self._changed:
            self._changed.notify_all()

    def end(self, entry: Entry, outcome: str) -> None:
        """Set how the answer ended; the first word stands."""
        if entry.ended.is_set():
            return
        entry.outcome = outcome
        if not self._bodies:
            entry.body = {}
        entry.ended.set()
        self._write({"kind": "end", "number": entry.number, "outcome": outcome, "at": time.time()})

    async def wait_for(
        self, wanted: Callable[[Entry], bool], count: int = 1, seconds: float = 30.0
    ) -> list[Entry]:
        """The entries wanted, as soon as there are `count` of them. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: sum(map(wanted, self.entries)) >= count)
        return [entry for entry in self.entries if wanted(entry)]

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file:
            self._file.write(json.dumps(line) + "\n")
