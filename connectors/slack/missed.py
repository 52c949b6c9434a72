"""What was written since some moment, read back: direct messages, mentions in channels that the bot
has joined, threads that are ours.

It goes through the same parse and the same keys as an event does: nothing is heard twice. Each
conversation's messages come in the order of their writing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from connectors.slack.reading import Reading
from connectors.slack.web import Refused, Unanswered
from daemon.clock import Clock
from daemon.errors import LedgerError, Unavailable
from daemon.model import ConversationId
from daemon.ports import Intake
from daemon.retries import patiently

log = structlog.get_logger()

LOOK_BACK_SECONDS = 24 * 3600.0  # older threads than that are read only where they are ours
OURS_SECONDS = 30 * 24 * 3600.0  # and those only if anything was said in them for so long
MAX_OURS, MAX_PLACES, MAX_PAGES = 300, 300, 10
LONGEST_WAIT_SECONDS = 60.0
ROOM_SECONDS = 5.0  # between two looks at whether intake has room again
# users.conversations' types, the most personal first, with the scope that each needs.
KINDS = {
    "im": "im:read",
    "mpim": "mpim:read",
    "private_channel": "groups:read",
    "public_channel": "channels:read",
}
TOKEN_GONE = frozenset(
    {"account_inactive", "invalid_auth", "not_authed", "token_expired", "token_revoked"}
)
MEND = (
    'add them under "OAuth & Permissions" (`postroom slack manifest` lists all), and install again'
)

# Registers a message's event; `newest`: nothing was written after it in its place.
Hear = Callable[[Mapping[str, Any], bool], Awaitable[None]]


@dataclass(slots=True)
class _Place:
    """A channel to read. `ours` are the roots of its threads that are ours."""

    channel: str
    direct: bool = False
    ours: set[str] = field(default_factory=set)


class Missed:
    """`refused` is told of a token that Slack no longer takes. `trouble` says what cannot be read,
    for health.
    """

    def __init__(
        self,
        *,
        name: str,
        clock: Clock,
        reading: Reading,
        hear: Hear,
        refused: Callable[[str], None],
    ) -> None:
        self.trouble = ""
        self._name = name
        self._clock = clock
        self._reading = reading
        self._hear = hear
        self._refused = refused
        self._lacking: set[str] = set()

    async def read(self, intake: Intake, since: float) -> int:
        """All of it, however long Slack or the ledger is away; returns the number of places read.
        Raises OwnershipLost.
        """
        self._lacking.clear()
        places: Sequence[_Place] = await self._patiently(self._places, intake, since)
        for place in places:
            while intake.full():  # it can wait where it is
                await self._clock.sleep(ROOM_SECONDS)
            await self._patiently(self._read_place, place, since)
        self._say_what_lacks()
        return len(places)

    async def _patiently(self, step: Callable[..., Awaitable[Any]], *given: Any) -> Any:
        def failed(error: BaseException, tries: int) -> None:
            log.warning("backfill.waits", connector=self._name, reason=str(error), tries=tries)

        over = (Unavailable, LedgerError)
        retried = patiently(self._clock, longest=LONGEST_WAIT_SECONDS, heard=failed, over=over)
        return await retried(step, *given)

    # --- where

    async def _places(self, intake: Intake, since: float) -> Sequence[_Place]:
        """Direct messages first, then where threads of ours are."""
        places = await self._joined()
        ours = await intake.active_conversations(self._name, since - OURS_SECONDS, MAX_OURS)
        for channel, root in filter(None, map(_thread_of, ours)):
            place = places.setdefault(channel, _Place(channel, direct=channel.startswith("D")))
            place.ours.add(root)
        ordered = sorted(places.values(), key=lambda place: (not place.direct, not place.ours))
        if len(ordered) > MAX_PLACES:
            log.warning("backfill.left_out", connector=self._name, places=len(ordered) - MAX_PLACES)
        return ordered[:MAX_PLACES]

    async def _joined(self) -> dict[str, _Place]:
        """Where the bot is a member; all kinds at once, else each kind that may be listed."""
        try:
            return await self._listed(",".join(KINDS))
        except Refused as error:
            if error.code != "missing_scope":
                self._note(error, "")
                return {}
        places: dict[str, _Place] = {}
        for kind, scope in KINDS.items():
            try:
                places |= await self._listed(kind)
            except Refused as error:
                self._note(error, scope)
        return places

    async def _listed(self, kinds: str) -> dict[str, _Place]:
        places: dict[str, _Place] = {}
        async for page in self._reading.channels(kinds):
            for channel in page:
                id_ = str(channel.get("id"))
                places[id_] = _Place(id_, direct=channel.get("is_im") is True)
        return places

    # --- what

    async def _read_place(self, place: _Place, since: float) -> None:
        """Its own messages, then those of each thread in which something was said."""
        try:
            seen = await self._messages(place.channel, None, since - LOOK_BACK_SECONDS)
            roots = {str(message.get("ts")): message for message in seen if _is_root(message)}
            lively = {ts for ts, root in roots.items() if moment(root.get("latest_reply")) > since}
            lively |= {
                str(m.get("thread_ts")) for m in seen if not _is_root(m) and _after(m, since)
            }
            await self._hear_all(place, [root for root in roots.values() if _after(root, since)])
            for thread in sorted(lively | (place.ours - roots.keys())):
                await self._read_thread(place, thread, since)
        except Refused as error:
            self._note(error, "the :history scopes")

    async def _read_thread(self, place: _Place, thread: str, since: float) -> None:
        try:
            replies = await self._messages(place.channel, thread, since)
        except Refused as error:
            if error.code != "thread_not_found":  # deleted, with all that hung from it
                raise
            return
        await self._hear_all(place, [reply for reply in replies if _after(reply, since)])

    async def _messages(
        self, channel: str, thread: str | None, oldest: float
    ) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        pages = 0
        async for page in self._reading.messages(channel, thread, oldest=oldest):
            found += page
            if (pages := pages + 1) == MAX_PAGES:
                log.warning("backfill.left_out", connector=self._name, channel=channel)
                break
        return found

    async def _hear_all(self, place: _Place, messages: Sequence[Mapping[str, Any]]) -> None:
        ordered = sorted(messages, key=lambda message: moment(message.get("ts")))
        for message in ordered:
            event = {**message, "type": "message", "channel": place.channel}
            if place.direct:
                event["channel_type"] = "im"
            await self._hear(event, message is ordered[-1])

    # --- what may not be read

    def _note(self, error: Refused, scope: str) -> None:
        """One place that may not be read hides none of the others. Raises Unanswered where none
        can be: then all of it stays owed.
        """
        if error.code in TOKEN_GONE:
            self._refused(error.code)
            raise Unanswered(str(error)) from error
        if error.code == "missing_scope":
            self._lacking.add(error.needed or scope)
        log.info("backfill.not_readable", connector=self._name, reason=str(error))

    def _say_what_lacks(self) -> None:
        self.trouble = ""
        if self._lacking:
            scopes = ", ".join(sorted(self._lacking))
            self.trouble = f"what an outage hides cannot all be read back without {scopes}: {MEND}"
            log.warning("backfill.scopes_missing", connector=self._name, scopes=scopes)


def _thread_of(conversation: ConversationId) -> tuple[str, str] | None:
    """Channel and root of "slack:TEAM:CHANNEL:ROOT"."""
    parts = conversation.split(":")
    return (parts[2], parts[3]) if len(parts) == 4 and parts[0] == "slack" else None


def _is_root(message: Mapping[str, Any]) -> bool:
    """False: a reply that was also sent to the channel."""
    return message.get("thread_ts") in (None, message.get("ts"))


def _after(message: Mapping[str, Any], since: float) -> bool:
    return moment(message.get("ts")) > since


def moment(value: object, otherwise: float = 0.0) -> float:
    """Seconds since the epoch, from a number or a ts."""
    try:
        return float(value) if isinstance(value, str | int | float) else otherwise
    except ValueError:
        return otherwise
