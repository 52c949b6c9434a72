"""Carrying an effect out by chat.postMessage, or by chat.update where it takes a post's place; and
looking for one that may have arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import structlog

from connectors.slack.buttons import replaced, update_arguments
from connectors.slack.limits import Limited, Limiter
from connectors.slack.outbound import carries, post_arguments
from connectors.slack.reading import Reading
from connectors.slack.web import AUTH_CODES, Refused, Unanswered, Web, answer_of
from daemon.clock import Clock
from daemon.errors import Unavailable
from daemon.model import (
    Effect,
    EffectId,
    EffectKind,
    JsonObject,
    NotNow,
    Receipt,
    Rejected,
    Sent,
    Sighting,
    Unclear,
)

log = structlog.get_logger()

CARRIED = (EffectKind.POST, EffectKind.NOTICE, EffectKind.REQUEST, EffectKind.OUTCOME)
# Trying again cannot help: docs.slack.dev/reference/methods/chat.postMessage, "errors".
PERMANENT = frozenset(
    {
        "account_inactive", "cannot_reply_to_message", "channel_is_limited_access",
        "channel_not_found", "duplicate_channel_not_found", "invalid_arguments",
        "invalid_blocks", "invalid_metadata_format", "invalid_metadata_schema", "is_archived",
        "is_inactive", "markdown_text_conflict", "messages_tab_disabled", "metadata_too_large",
        "msg_blocks_too_long", "msg_too_long", "no_text", "not_in_channel", "restricted_action",
        "restricted_action_non_threadable_channel", "restricted_action_read_only_channel",
        "restricted_action_thread_locked", "restricted_action_thread_only_channel",
        "slack_connect_canvas_sharing_blocked", "team_not_found", "user_disabled", "user_not_found",
    }
)  # fmt: skip
# There is nothing (any more) whose place could be taken: reference/methods/chat.update, "errors".
GONE = frozenset({"cant_update_message", "edit_window_closed", "message_not_found"})
NOTHING = Sent("nothing")
WHISPER_SECONDS = 5.0
PATIENCE_SECONDS = 2.0  # a post waits here so long for its turn; if it takes longer, in the outbox
PARKED_SECONDS = 60.0
MARGIN_SECONDS = 600.0  # our clock and Slack's may differ: what is looked for may look older
MAX_PAGES = 20


class Posts:
    """`standing` is None, or why no call can work now; `refused` is told of a refused token,
    `posted` of each post's channel and ts. `sent_as` gives the ts of an effect that arrived.

    `look_apart` seconds lie between the two looks: a post may be read back only after a moment.
    """

    def __init__(
        self,
        *,
        web: Web,
        reading: Reading,
        limiter: Limiter,
        clock: Clock,
        team: Callable[[], str],
        standing: Callable[[], str | None],
        refused: Callable[[str], None],
        posted: Callable[[str, str], None],
        sent_as: Callable[[EffectId], Awaitable[str | None]],
        look_apart: float,
    ) -> None:
        self._web = web
        self._reading = reading
        self._limiter = limiter
        self._clock = clock
        self._team = team
        self._standing = standing
        self._refused = refused
        self._posted = posted
        self._sent_as = sent_as
        self._look_apart = look_apart
        self._direct: dict[str, str] = {}

    async def deliver(self, effect: Effect, sending: Callable[[], Awaitable[None]]) -> Receipt:
        if effect.kind not in CARRIED:
            return Rejected(f"Slack carries out no {effect.kind.value}")
        if (reason := self._standing()) is not None:
            return NotNow(reason, PARKED_SECONDS)
        if effect.kind is not EffectKind.OUTCOME:
            return await self._call("chat.postMessage", self._post, effect, sending)
        place = await self._sent_as(replaced(effect))
        if place is None:
            return NOTHING
        return await self._call("chat.update", partial(self._replace, place), effect, sending)

    async def _call(
        self,
        method: str,
        call: Callable[[Effect, str], Awaitable[Receipt]],
        effect: Effect,
        sending: Callable[[], Awaitable[None]],
    ) -> Receipt:
        """`call` raises as `answer_of`."""
        try:
            channel = await self._channel(effect)
            await self._limiter.enter(self._team(), method, channel, patience=PATIENCE_SECONDS)
        except Refused as error:
            return self._refusal(error)
        except Unavailable as error:
            return NotNow(str(error), error.retry_after)
        await sending()
        try:
            return await call(effect, channel)
        except Limited as error:
            self._limiter.close(self._team(), method, channel, error.retry_after)
            return NotNow(str(error), error.retry_after)
        except Refused as error:
            return self._refusal(error)
        except Unanswered as error:
            return Unclear(str(error)) if error.sent else NotNow(str(error), 0.0)

    async def _post(self, effect: Effect, channel: str) -> Receipt:
        answer = await answer_of(self._web.once.chat_postMessage(**post_arguments(effect, channel)))
        ts = answer.get("ts")
        if not isinstance(ts, str):
            return Unclear("Slack named no ts")
        self._posted(str(answer.get("channel") or channel), ts)
        return Sent(ts)

    async def _replace(self, place: str, effect: Effect, channel: str) -> Receipt:
        """`place` is the ts of the post whose place the effect takes."""
        try:
            await answer_of(self._web.safe.chat_update(**update_arguments(effect, channel, place)))
        except Refused as error:
            if error.code not in GONE:
                raise
            return NOTHING
        return Sent(place)

    def _refusal(self, error: Refused) -> Receipt:
        if error.code in AUTH_CODES:
            self._refused(error.code)
        if error.code in PERMANENT:
            return Rejected(str(error))
        return NotNow(str(error), PARKED_SECONDS if error.code in AUTH_CODES else 0.0)

    async def _channel(self, effect: Effect) -> str:
        """Where it goes; for a user's id their direct messages are opened."""
        address = str(effect.target.get("channel", ""))
        if not address.startswith(("U", "W")):
            return address
        if address not in self._direct:
            await self._limiter.enter(self._team(), "conversations.open", patience=PATIENCE_SECONDS)
            answer = await answer_of(self._web.safe.conversations_open(users=address))
            channel = answer.get("channel")
            if not isinstance(channel, Mapping) or not isinstance(channel.get("id"), str):
                raise Unanswered("Slack's answer makes no sense", sent=False)
            self._direct[address] = channel["id"]
        return self._direct[address]

    async def find(self, effect: Effect) -> Sent | Sighting:
        """Read back twice: only what neither look shows is absent. Raises Unavailable. To take a
        place again does no harm.
        """
        if effect.kind is EffectKind.OUTCOME:
            return Sighting.ABSENT
        try:
            found = await self._look(effect)
            if found is None:
                await self._clock.sleep(self._look_apart)
                found = await self._look(effect)
        except Refused as error:
            if error.code == "thread_not_found":  # nothing hangs from a thread that is not there
                return Sighting.ABSENT
            if error.code in PERMANENT or error.code == "missing_scope":
                return Sighting.UNKNOWN
            raise Unanswered(str(error)) from error
        return Sighting.ABSENT if found is None else Sent(found)

    async def _look(self, effect: Effect) -> str | None:
        """The ts of the post that carries the effect's id, from shortly before it first went."""
        channel = await self._channel(effect)
        began = effect.started_at if effect.started_at is not None else effect.created_at
        thread = effect.target.get("thread_ts")
        pages = self._reading.messages(
            channel, str(thread) if thread else None, oldest=began - MARGIN_SECONDS, metadata=True
        )
        read = 0
        async for page in pages:
            for message in page:
                if carries(message, effect) and isinstance(message.get("ts"), str):
                    return str(message["ts"])
            if (read := read + 1) == MAX_PAGES:
                raise Unanswered("there is more to read than can be read")
        return None

    async def whisper(self, target: JsonObject, text: str) -> None:
        """chat.postEphemeral, to one person: Slack keeps none of it. Best effort, never raises."""
        channel, thread = str(target.get("channel")), str(target.get("thread_ts"))
        try:
            async with asyncio.timeout(WHISPER_SECONDS):
                await self._limiter.enter(self._team(), "chat.postEphemeral")
                await answer_of(
                    self._web.safe.chat_postEphemeral(
                        channel=channel, user=str(target.get("user")), thread_ts=thread, text=text
                    )
                )
        except (Refused, Unavailable, TimeoutError) as error:
            log.info("whisper.not_heard", reason=str(error) or type(error).__name__)
