"""The stand-in's journal: what happened, in order, and waiting for something to happen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Entry = dict[str, Any]
T = TypeVar("T")


class Journal:
    """Entries `{"n": 1, "at": UNIX_SECONDS, "kind": ..., ...facts}`, also as JSON lines in `path`.

    Kinds: `call` (Web API), `post` / `update` / `delete` (a message was stored, changed, removed,
    by whomever), `status`, `event`, `delivery`, `ack`, `gave_up`, `ticket`, `socket`, `frame`.
    Nothing is awaited between a fact and its entry, so the order of entries is the order of facts.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.entries: list[Entry] = []
        self._by_kind: dict[str, list[Entry]] = {}
        self._file = path.open("a", encoding="utf-8") if path else None
        self._waiting: list[tuple[Callable[[], object], asyncio.Future[Any]]] = []
        self._waking = False

    def write(self, kind: str, **facts: Any) -> Entry:
        entry: Entry = {"n": len(self.entries) + 1, "at": time.time(), "kind": kind, **facts}
        self.entries.append(entry)
        self._by_kind.setdefault(kind, []).append(entry)
        if self._file:
            self._file.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
            self._file.flush()
        self._wake()
        return entry

    def of(self, kind: str) -> list[Entry]:
        return list(self._by_kind.get(kind, ()))

    async def wait_until(self, condition: Callable[[], T | None], *, within: float = 40.0) -> T:
        """The first truthy value of `condition`, looked at now and whenever entries have come.

        Raises TimeoutError, with the last few entries, after `within` seconds.
        """
        value = condition()
        if value:
            return value
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiter = (condition, future)
        self._waiting.append(waiter)
        try:
            return await asyncio.wait_for(future, within)
        except TimeoutError:
            tail = "\n".join(f"  {entry}"[:300] for entry in self.entries[-8:])
            raise TimeoutError(f"not seen within {within} s; the journal ends:\n{tail}") from None
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    async def wait_for(
        self, predicate: Callable[[Entry], bool], *, since: int = 0, within: float = 40.0
    ) -> Entry:
        """The first entry after number `since` for which `predicate` holds."""
        looked_at = since

        def found() -> Entry | None:
            nonlocal looked_at
            while looked_at < len(self.entries):
                entry = self.entries[looked_at]
                looked_at += 1
                if predicate(entry):
                    return entry
            return None

        return await self.wait_until(found, within=within)

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _wake(self) -> None:
        """Have the conditions looked at soon: once for all entries of one step of the loop."""
        if self._waiting and not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._waking = False
        for condition, future in list(self._waiting):
            if future.done():
                continue
            try:
                value = condition()
            except Exception as error:  # noqa: BLE001 - the waiter's own code: it gets its error
                future.set_exception(error)
                continue
            if value:
                future.set_result(value)
