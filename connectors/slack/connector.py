"""The Slack connector: wires its parts, runs them, and says how they are.

An event's way: connection -> Bolt -> `_persist` -> parse -> intake.accept -> acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import structlog
from slack_bolt.adapter.socket_mode.async_internals import (
    run_async_bolt_app,
    send_async_response,
)
from slack_bolt.async_app import AsyncApp
from slack_bolt.response import BoltResponse
from slack_sdk.socket_mode.request import SocketModeRequest

from connectors.slack import buttons, diagnosis, identity, outbound
from connectors.slack.activity import Activity
from connectors.slack.backfill import BackFill
from connectors.slack.config import SlackTable
from connectors.slack.connection import Connection, Timing
from connectors.slack.echoes import Echoes
from connectors.slack.inbound import Bot, Parsed, Skipped, parse
from connectors.slack.introductions import Introductions
from connectors.slack.limits import Limited, Limiter
from connectors.slack.missed import Missed
from connectors.slack.people import People
from connectors.slack.posts import Posts
from connectors.slack.reading import Reading
from connectors.slack.sockets import Handle, Sockets
from connectors.slack.web import Web, answer_of
from daemon.errors import AuthenticationFailed, LedgerError, Unavailable
from daemon.model import (
    Answer,
    Approval,
    Decision,
    Edited,
    Effect,
    Finding,
    Health,
    HealthState,
    Identity,
    JsonObject,
    Message,
    NewEffect,
    Outcome,
    Priority,
    Receipt,
    Sent,
    Sighting,
    Stop,
)
from daemon.plugin import Surroundings
from daemon.ports import Intake
from daemon.retries import patiently

log = structlog.get_logger()

PROOF_SECONDS = 12.0  # SURFACE: a hello, and a pong younger than this
LOOK_APART_SECONDS = 2.0
STRANGERS = (
    "Slack counts {} connections of this app, {} of them not ours: events go there too; stop the "
    "other program that holds app_token, or give it an app of its own"
)


class SlackConnector:
    """The ports Connector, ShowsActivity, Notifies, HasButtons and Diagnoses for one app in one
    workspace.
    """

    kind = "slack"
    scheme = "slack"
    priority = Priority.CHAT

    def __init__(
        self,
        name: str,
        table: SlackTable,
        around: Surroundings,
        *,
        timing: Timing | None = None,
        look_apart: float = LOOK_APART_SECONDS,
    ) -> None:
        self.name = name
        self._table = table
        self._clock = around.clock
        self._kept = around.data_dir / name / "bot.json"
        self._timing = timing or Timing()
        self._web = Web(table)
        self._limiter = Limiter(around.clock)
        self._people = People(
            clock=around.clock,
            ask=self._users_info,
            operators=around.operators,
            answer_public=table.answer_public,
        )
        self._activity = Activity(web=self._web, limiter=self._limiter, clock=around.clock)
        self._introductions = Introductions(
            name=name, people=self._people, clock=around.clock, introduced=self._introduced
        )
        reading = Reading(web=self._web, limiter=self._limiter, team=lambda: self._activity.team)
        missed = Missed(
            name=name,
            clock=around.clock,
            reading=reading,
            hear=self._hear_again,
            refused=self._token_refused,
        )
        self._backfill = BackFill(
            name=name,
            path=self._kept.with_name("proven.json"),
            clock=around.clock,
            missed=missed,
            proof=self._proof_age,
            rest=self._timing.rest,
        )
        self._echoes = Echoes(name=name, clock=around.clock, missed=self._backfill.owe)
        self._posts = Posts(
            web=self._web,
            reading=reading,
            limiter=self._limiter,
            clock=around.clock,
            team=lambda: self._activity.team,
            standing=lambda: self._parked,
            refused=self._token_refused,
            posted=self._echoes.posted,
            sent_as=around.outbox.sent_as,
            look_apart=look_apart,
        )
        self._sockets: Sockets | None = None
        self._intake: Intake | None = None
        self._parked: str | None = None
        self._refused: asyncio.Event = asyncio.Event()
        self._detail = "starting"
        self._events = 0

    # --- life

    async def run(self, intake: Intake, ready: Callable[[], None]) -> None:
        """Until cancelled. Raises AuthenticationFailed when Slack refuses a token."""
        self._intake, self._parked = intake, None
        self._refused.clear()
        try:
            async with self._web.session() as http:
                await self._serve(intake, ready, http)
        except (AuthenticationFailed, BaseExceptionGroup) as failure:
            error = _first(failure)
            if isinstance(error, AuthenticationFailed):
                self._parked = str(error)
            raise error from None
        finally:
            self._sockets = None

    async def _serve(
        self, intake: Intake, ready: Callable[[], None], http: aiohttp.ClientSession
    ) -> None:
        token = self._table.bot_token.reveal()
        bot = await asyncio.to_thread(identity.load, self._kept, token)
        if bot is None:
            # Without it a mention cannot be told from any other text.
            await self._introduce_ourselves()
        else:
            self._we_are(bot)
        await self._backfill.load(self._bot.user)
        self._sockets = sockets = Sockets(
            web=self._web,
            app_token=self._table.app_token.reveal(),
            count=self._table.sockets,
            timing=self._timing,
            handle=self._bolt(),
            regained=self._backfill.regained,
        )
        async with asyncio.TaskGroup() as group:
            if bot is not None:
                group.create_task(self._introduce_ourselves(), name="slack auth.test")
            group.create_task(sockets.run(http), name="slack sockets")
            group.create_task(self._introductions.run(intake), name="slack introductions")
            group.create_task(self._activity.renew(), name="slack statuses")
            group.create_task(self._backfill.run(intake), name="slack back-fill")
            group.create_task(self._backfill.keep(), name="slack last proof")
            group.create_task(self._echoes.watch(), name="slack echoes")
            group.create_task(self._park_when_refused(), name="slack token")
            await sockets.proven.wait()
            ready()

    async def _introduce_ourselves(self) -> None:
        """auth.test until it answers; keep what it says. Raises AuthenticationFailed."""

        def failed(error: BaseException, _tries: int) -> None:
            self._detail = f"auth.test: {error}"
            log.warning("bot.not_identified", connector=self.name, reason=str(error))

        bot: Bot = await patiently(self._clock, longest=30.0, heard=failed)(identity.ask, self._web)
        self._we_are(bot)
        await asyncio.to_thread(identity.save, self._kept, self._table.bot_token.reveal(), bot)

    @property
    def _bot(self) -> Bot:
        bot = self._people.bot
        assert bot is not None  # noqa: S101 - no connection is opened before
        return bot

    def _we_are(self, bot: Bot) -> None:
        self._people.bot = bot
        self._activity.team = bot.team
        self._detail = ""

    async def _park_when_refused(self) -> None:
        await self._refused.wait()
        raise AuthenticationFailed(self._parked)

    def _token_refused(self, code: str) -> None:
        self._parked = f"Slack refuses bot_token ({code})"
        self._refused.set()

    # --- in

    def _bolt(self) -> Handle:
        app = AsyncApp(
            client=self._web.safe,
            before_authorize=self._persist,
            request_verification_enabled=False,
            logger=self._web.logger,
        )

        async def handle(connection: Connection, request: SocketModeRequest) -> None:
            began = time.time()
            response = await run_async_bolt_app(app, request)
            try:
                await send_async_response(connection, request, response, began)
            except ConnectionError:
                log.info("event.not_acknowledged", connector=self.name)  # it comes again

        return handle

    async def _persist(self, body: dict[str, Any]) -> BoltResponse:
        """Register, then acknowledge: the only Bolt hook with logic in it. It runs before any
        call of the Web API, and ends the request. Not 200: Slack brings the event again.
        """
        self._events += 1
        self._echoes.heard(body.get("event"), self._bot)
        try:
            await self._register(self._parse(body))
        except (LedgerError, Unavailable) as error:
            log.warning("event.not_registered", connector=self.name, reason=str(error))
            return BoltResponse(status=500, body="")
        return BoltResponse(status=200, body="")

    async def _hear_again(self, event: Mapping[str, Any], newest: bool) -> None:
        """A message that was read back, as if its event came now. Raises as `_register`."""
        item = self._parse({"type": "event_callback", "event": event})
        if isinstance(item, Stop) and not newest:
            return  # what was to stop then is over; what came after it is not meant
        await self._register(item)

    def _parse(self, body: object) -> Parsed | Decision:
        if isinstance(body, Mapping) and body.get("type") == "block_actions":
            return buttons.pressed(self.name, body, self._bot, self._people)
        return parse(self.name, body, self._bot, self._people, self._activity.at_work)

    async def _register(self, item: Parsed | Decision) -> None:
        """Raises LedgerError, Unavailable: nothing is registered."""
        if isinstance(item, Skipped):
            log.debug("event.skipped", connector=self.name, reason=item.reason)
            return
        intake = self._intake
        assert intake is not None  # noqa: S101 - nothing is heard before `run`
        registered = await intake.accept(item)
        message = item.message if isinstance(item, Edited) else item
        if registered.outcome is Outcome.UNIDENTIFIED and isinstance(message, Message):
            self._introductions.want(message.sender.id)
        if any(taken.outcome is Outcome.UNIDENTIFIED for taken in registered.taken_up):
            for sender in await intake.unidentified(self.name):
                self._introductions.want(sender)

    async def _users_info(self, user: str) -> Mapping[str, Any]:
        team = self._activity.team
        await self._limiter.enter(team, "users.info", patience=60.0)
        try:
            answer = await answer_of(self._web.safe.users_info(user=user))
        except Limited as error:
            self._limiter.close(team, "users.info", "", error.retry_after)
            raise
        found = answer.get("user")
        return found if isinstance(found, Mapping) else {}

    async def _introduced(self, found: Identity) -> None:
        if found.refused:
            await self._activity.clear_of(found.sender.rpartition(":")[2])

    # --- out

    async def compose(self, answer: Answer) -> tuple[NewEffect, ...]:
        return outbound.compose(answer)

    def channel_of(self, target: JsonObject) -> str:
        return str(target["channel"])

    def compose_notice(self, key: str, address: str, text: str) -> NewEffect:
        return outbound.compose_notice(self.name, key, address, text)

    def compose_request(self, approval: Approval, text: str, shown: str) -> NewEffect:
        return buttons.compose_request(approval, text, shown)

    def compose_outcome(self, approval: Approval, text: str, shown: str) -> NewEffect:
        return buttons.compose_outcome(approval, text, shown)

    async def whisper(self, target: JsonObject, text: str) -> None:
        await self._posts.whisper(target, text)

    async def deliver(self, effect: Effect, sending: Callable[[], Awaitable[None]]) -> Receipt:
        return await self._posts.deliver(effect, sending)

    async def find(self, effect: Effect) -> Sent | Sighting:
        return await self._posts.find(effect)

    async def show_activity(self, target: JsonObject, text: str) -> None:
        await self._activity.show(target, text)

    # --- health

    def _proof_age(self) -> float | None:
        """Seconds since inbound was last proven; None: nothing proves it at present."""
        return self._sockets.proof().pong_age if self._sockets else None

    async def diagnose(self, *, live: bool) -> tuple[Finding, ...]:  # noqa: ARG002 - no trace left
        return await diagnosis.diagnose(self.name, self._web, self._table.app_token.reveal())

    def health(self) -> Health:
        """Ready: one connection said hello and answered a ping in the last twelve seconds."""
        proof = self._sockets.proof() if self._sockets else None
        age = proof.pong_age if proof else None
        ready = self._parked is None and age is not None and age < PROOF_SECONDS
        numbers: dict[str, float | int | str | bool | None] = {
            "sockets": proof.open if proof else 0,
            "sockets_wanted": self._table.sockets,
            "num_connections": proof.connections if proof else None,
            "hello_age_seconds": _rounded(proof.hello_age if proof else None),
            "opened": self._sockets.opened if self._sockets else 0,
            "events": self._events,
            "strangers": proof.strangers if proof else 0,
            "echo_age_seconds": _rounded(self._echoes.age),
            "echoes_missing": self._echoes.missing,
            "back_filling": self._backfill.running,
            "back_fills": self._backfill.runs,
        }
        if not ready:
            trouble = self._sockets.trouble if self._sockets else ""
            detail = self._parked or trouble or self._detail or "no connection has proven alive"
            return Health(HealthState.FAIL, detail, ready=False, age=age, numbers=numbers)
        strange = proof.strangers if proof else 0
        troubles = (
            self._echoes.trouble,
            STRANGERS.format(numbers["num_connections"], strange) if strange else "",
            self._introductions.trouble,
            self._backfill.trouble,
            self._detail,
        )
        detail = "; ".join(filter(None, troubles))
        state = HealthState.WARN if detail else HealthState.PASS
        return Health(state, detail, ready=True, age=age, numbers=numbers)


def _first(error: BaseException) -> BaseException:
    """The first single failure of nested task groups: what the supervisor can judge."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _rounded(age: float | None) -> float | None:
    return None if age is None else round(age, 1)
