"""The run queue: conversations with work, in the order in which they may go. In memory, no I/O.

Rebuilt from the ledger at start, and sized for a flood: nothing here walks all that waits but
`ahead`, which is asked once for a person's message.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable

from daemon.model import ConversationId, Priority, ReadyConversation

AGEING_SECONDS = 300.0  # a conversation that waited this long moves up one class of priority

_Entry = tuple[float, int, ReadyConversation]


def order(ready: ReadyConversation, now: float) -> tuple[float, float]:
    """Lower first: priority, one class better for each AGEING_SECONDS waited; then the oldest."""
    return (ready.priority - int((now - ready.since) / AGEING_SECONDS), ready.since)


class RunQueue:
    """Each conversation once, as it was put last. Times are seconds since the Unix epoch."""

    def __init__(self) -> None:
        self._known: dict[ConversationId, ReadyConversation] = {}
        # Within a class the oldest goes first, whatever the time is: its age only grows.
        self._due: dict[Priority, list[_Entry]] = {priority: [] for priority in Priority}
        self._later: list[_Entry] = []
        self._count = 0  # no two entries compare equal

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, conversation: ConversationId) -> bool:
        return conversation in self._known

    def put(self, ready: ReadyConversation, due: float) -> None:
        """A conversation as it is now; `due` is when its turn may begin."""
        self._known[ready.id] = ready
        self._push(self._later, due, ready)

    def drop(self, conversation: ConversationId) -> None:
        self._known.pop(conversation, None)

    def take(self, now: float, classes: Collection[Priority]) -> ReadyConversation | None:
        """The first that may go now, of these classes; it is out of the queue then."""
        while self._later and self._later[0][0] <= now:
            _, _, ready = heapq.heappop(self._later)
            if self._holds(ready):
                self._push(self._due[ready.priority], ready.since, ready)
        first = min(self._heads(classes), key=lambda ready: order(ready, now), default=None)
        if first is not None:
            heapq.heappop(self._due[first.priority])
            self.drop(first.id)
        return first

    def next_due(self) -> float | None:
        """When the next of those is due whose time has not come."""
        self._tidy(self._later)
        return self._later[0][0] if self._later else None

    def ahead(self, priority: Priority, now: float) -> int:
        """How many would go before a conversation of this class that came now."""
        own = (priority, now)
        return sum(order(ready, now) < own for ready in self._known.values())

    def _heads(self, classes: Collection[Priority]) -> Iterable[ReadyConversation]:
        for priority in classes:
            entries = self._due[priority]
            self._tidy(entries)
            if entries:
                yield entries[0][2]

    def _tidy(self, entries: list[_Entry]) -> None:
        while entries and not self._holds(entries[0][2]):
            heapq.heappop(entries)

    def _holds(self, ready: ReadyConversation) -> bool:
        return self._known.get(ready.id) is ready

    def _push(self, entries: list[_Entry], at: float, ready: ReadyConversation) -> None:
        self._count += 1
        heapq.heappush(entries, (at, self._count, ready))
