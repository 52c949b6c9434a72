"""`StandInSlack`: the server itself, what humans do in it, and what a test makes go wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from aiohttp import web

from daemon.demo.slack import control, events, files, people, posting, surfaces
from daemon.demo.slack.deliveries import Deliveries, Delivering, DeliveryFaults
from daemon.demo.slack.faults import Answer, Fault
from daemon.demo.slack.journal import Entry, Journal
from daemon.demo.slack.people import Post, Said
from daemon.demo.slack.sockets import Loss, Reason, Sockets
from daemon.demo.slack.web_api import WebApi
from daemon.demo.slack.workspace import Workspace

Json = dict[str, Any]


class StandInSlack:
    """Slack's servers on loopback: `async with StandInSlack() as slack: slack.api_url`.

    `port` 0 takes a free one. `limits` enforces Slack's published rate limits. `delivering` holds
    the ack timer and the retries, `seed` chooses the sockets. `echo` False keeps the bot's own
    messages from coming back to it as events (Slack sends them).
    """

    app_token = "xapp-1-A0001-stand-in"
    bot_token = "xoxb-0001-stand-in"

    def __init__(
        self,
        *,
        port: int = 0,
        journal: Path | None = None,
        limits: bool = False,
        delivering: Delivering | None = None,
        echo: bool = True,
        seed: int = 0,
    ) -> None:
        self.journal = Journal(journal)
        self.workspace = Workspace(self.journal)
        self.workspace.publish = self._publish
        self.delivering = delivering or Delivering()
        self.sockets = Sockets(self.journal, self.workspace.app)
        self.deliveries = Deliveries(self.journal, self.sockets, self.delivering, seed)
        self.sockets.heard = self.deliveries.hear
        self.api = WebApi(
            self.workspace,
            self.sockets,
            app_token=self.app_token,
            bot_token=self.bot_token,
            limits=limits,
        )
        self.echo = echo
        self._port = port
        self._runner: web.AppRunner | None = None

    # --- life

    @property
    def url(self) -> str:
        return self.workspace.base_url

    @property
    def api_url(self) -> str:
        """The connector's `api_url`: http://127.0.0.1:PORT/api/."""
        return f"{self.url}/api/"

    async def start(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        workspace = self.workspace
        app.router.add_route("*", "/api/{method}", self.api.handle)
        app.router.add_get("/link", self.sockets.handle)
        app.router.add_post("/upload/v1/{file}", partial(files.upload, workspace))
        app.router.add_get("/files-pri/{file}/{name:.*}", self._download)
        control.add_routes(app, self)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        port = self._runner.addresses[0][1]
        workspace.base_url = f"http://127.0.0.1:{port}"
        return self

    async def stop(self) -> None:
        self.api.heal()
        await self.deliveries.stop()
        await self.sockets.stop()
        if self._runner:
            await self._runner.cleanup()
        self.journal.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def _download(self, request: web.Request) -> web.Response:
        return files.download(self.workspace, request, self.bot_token)

    def _publish(self, event: Json, shared: bool) -> str:
        own = event.get("bot_id") or event.get("message", {}).get("bot_id")
        own = own or event.get("previous_message", {}).get("bot_id")
        if own == self.workspace.bot_id and not self.echo:
            return ""
        return self.deliveries.publish(events.event_callback(self.workspace, event, shared=shared))

    # --- what people do

    def say(
        self, user: str, channel: str, text: str, thread_ts: str | None = None, **more: Any
    ) -> Said:
        """A person posts. `channel` may be the bot's user id: their direct messages.

        A mention is `<@U0BOT>` in the text. More: `order` ("message_first", "mention_first": which
        of a mention's two events goes first), `client_msg_id` (one gesture with two ts is two calls
        with one id), `ago` (it was written so many seconds ago), `attached` (a list of (file name,
        content, MIME type)).
        """
        workspace = self.workspace
        direct = channel == workspace.bot_user
        place = workspace.direct(user) if direct else workspace.channel(channel)
        return people.say(workspace, user, place, text, thread_ts, **more)

    def dm(self, user: str, text: str, thread_ts: str | None = None, **more: Any) -> Said:
        """A person writes to the bot directly."""
        return self.say(user, self.workspace.bot_user, text, thread_ts, **more)

    def mention(
        self, user: str, channel: str, text: str, thread_ts: str | None = None, **more: Any
    ) -> Said:
        """`say` with the bot's mention in front."""
        text = f"<@{self.workspace.bot_user}> {text}"
        return self.say(user, channel, text, thread_ts, **more)

    def edit(self, channel: str, ts: str, text: str) -> str:
        """Its author edits a message; the event's id."""
        return people.edit(self.workspace, self.workspace.channel(channel), ts, text)

    def delete(self, channel: str, ts: str) -> str:
        """A message is deleted; the event's id."""
        return posting.remove(self.workspace, self.workspace.channel(channel), ts, by="human")

    def react(self, user: str, channel: str, ts: str, name: str, *, adding: bool = True) -> None:
        surfaces.react(self.workspace, channel, ts, name, user, adding=adding)

    def join(self, user: str, channel: str) -> tuple[str, ...]:
        """Somebody, the bot too, joins a channel; the ids of two events."""
        return people.join(self.workspace, user, self.workspace.channel(channel))

    def open_home(self, user: str, tab: Literal["home", "messages"] = "messages") -> str:
        return people.open_home(self.workspace, user, tab)

    def click(self, user: str, channel: str, ts: str, action_id: str) -> str:
        """Press a message's button: a `block_actions`, sent once; its trigger_id.

        Raises LookupError where the message has no such button.
        """
        place = self.workspace.channel(channel)
        payload = people.click(self.workspace, user, place, ts, action_id)
        return self.deliveries.interact("interactive", payload)

    def emit(self, event: Json, **body: Any) -> str:
        """Any event at all, in an otherwise sound body; `body` replaces parts of that."""
        return self.deliveries.publish(events.event_callback(self.workspace, event) | body)

    # --- looking

    def posts(self, channel: str | None = None, thread_ts: str | None = None) -> list[Post]:
        """The bot's messages that stand now, oldest first; `thread_ts` leaves one thread's."""
        return people.posts(self.workspace, channel, thread_ts)

    def calls(self, method: str | None = None) -> list[Entry]:
        return [call for call in self.journal.of("call") if method in (None, call["method"])]

    async def wait_for(
        self, predicate: Callable[[Entry], bool], *, since: int = 0, within: float = 40.0
    ) -> Entry:
        """The first journal entry (after number `since`) for which `predicate` holds.

        Raises TimeoutError after `within` seconds, as all of these.
        """
        return await self.journal.wait_for(predicate, since=since, within=within)

    async def wait_for_posts(
        self,
        channel: str | None = None,
        thread_ts: str | None = None,
        *,
        count: int = 1,
        containing: str = "",
        within: float = 40.0,
    ) -> list[Post]:
        """At least `count` standing messages of the bot, each with `containing` in its text."""

        def seen() -> list[Post] | None:
            posts = [p for p in self.posts(channel, thread_ts) if containing in p.text]
            return posts if len(posts) >= count else None

        return await self.journal.wait_until(seen, within=within)

    async def wait_for_answer(self, said: Said, *, within: float = 40.0) -> Post:
        """The bot's first message after `said`, in its thread."""

        def seen() -> Post | None:
            posts = self.posts(said.channel, said.root)
            return next((post for post in posts if post.ts > said.ts), None)

        return await self.journal.wait_until(seen, within=within)

    async def wait_for_ack(self, said: Said | str, *, within: float = 40.0) -> Entry:
        """The ack of an event; of what was said: every event is acked, the last one's ack."""
        wanted = (said,) if isinstance(said, str) else said.events
        acked = self.deliveries.acked

        def seen() -> Entry | None:
            whole = bool(wanted) and all(event_id in acked for event_id in wanted)
            return acked[wanted[-1]] if whole else None

        return await self.journal.wait_until(seen, within=within)

    async def wait_for_status(
        self, channel: str, thread_ts: str | None = None, *, since: int = 0, within: float = 40.0
    ) -> Entry:
        """A status that the bot shows (either method), not an empty one."""

        def shown(entry: Entry) -> bool:
            return (
                entry["kind"] == "status"
                and entry["channel"] == channel
                and thread_ts in (None, entry["thread_ts"])
                and bool(entry["status"])
            )

        return await self.wait_for(shown, since=since, within=within)

    async def wait_connected(self, sockets: int = 1, *, within: float = 40.0) -> None:
        await self.journal.wait_until(lambda: len(self.sockets.open) >= sockets, within=within)

    # --- what goes wrong

    def fail(
        self, method: str, answer: Answer = "error", *, times: int | None = 1, **fault: Any
    ) -> None:
        """The next `times` calls of `method` ("chat.*", "*") end in `Fault(answer, **fault)`."""
        self.api.plan.add(method, Fault(answer, **fault), times)

    def lose_answer(self, method: str, times: int | None = 1) -> None:
        """The call is carried out, its answer never arrives: the connection is cut."""
        self.fail(method, "cut", times=times, performed=True)

    def rate_limit(self, method: str, retry_after: int, times: int | None = 1) -> None:
        """HTTP 429, with Retry-After in seconds; the call is not carried out."""
        self.fail(method, "status", times=times, status=429, retry_after=retry_after)

    def slow(self, method: str, seconds: float, times: int | None = 1) -> None:
        self.fail(method, "normal", times=times, delay=seconds)

    def heal(self) -> None:
        """No more faults, of calls or of sockets; what hangs is let go."""
        self.api.heal()
        self.sockets.heal()
        self.deliveries.faults = DeliveryFaults()

    def duplicate_next(self, events: int = 1) -> None:
        self.deliveries.faults.duplicates = events

    def drop_acks(self, acks: int = 1) -> None:
        """The next acks are taken for not arrived: the events are delivered again."""
        self.deliveries.faults.dropped_acks = acks

    def dead_tickets(self, tickets: int = 1) -> None:
        """The next tickets answer HTTP 408, as expired ones do."""
        self.sockets.faults.dead_tickets = tickets

    def lose_sockets_after_delivery(self, times: int = 1, how: Loss = "close") -> None:
        """The socket goes just after an event was written to it."""
        self.deliveries.faults.lost_after_delivery = times
        self.deliveries.faults.loss = how

    def close_at_hello(self, times: int = 1) -> None:
        self.sockets.faults.closed_at_hello = times

    async def lose_sockets(self, how: Loss = "close") -> None:
        """All connections end now, with a closing handshake or with a cut of TCP."""
        await self.sockets.lose(self.sockets.open, how)

    def black_hole(self, *, on: bool = True) -> None:
        """Connections stay open and nothing goes in or out; new ones are never answered."""
        self.sockets.black_hole(on=on)

    async def disconnect(self, reason: Reason, *, close_after: float | None = None) -> None:
        """A `disconnect` frame to every socket; `close_after` seconds later they are closed."""
        await self.sockets.disconnect(reason, self.sockets.open, close_after)

    async def send_frame(self, frame: Json | str) -> None:
        """Anything at all, to every socket."""
        for socket in list(self.sockets.open):
            await self.sockets.send(socket, frame)
