"""HTTP for whoever is not in this process: act as a person, set faults, read everything.

- `GET /_/info`: `{"api_url", "app_token", "bot_token", "bot_user", "team", "sockets", ...}`.
- `POST /_/control`: `{"do": NAME, ...arguments}`, a name of ACTIONS; `{"ok": true, "result": ...}`,
  or 400 with `{"ok": false, "error": ...}`.
- `GET /_/journal?since=N&kind=post,ack&wait=SECONDS`: entries after number N; with `wait` the call
  is held until there is one, at most so long.
- `GET /_/posts?channel=C&thread_ts=T`: the bot's messages that stand now.
- `GET /_/messages?channel=C`: all messages of one channel, as stored.
"""

from __future__ import annotations

import dataclasses
import inspect
from functools import partial
from typing import Any, Protocol

from aiohttp import web

from daemon.demo.slack.journal import Journal
from daemon.demo.slack.people import Post
from daemon.demo.slack.sockets import Sockets
from daemon.demo.slack.workspace import RefusedError, Workspace

Json = dict[str, Any]

ACTIONS = (
    "say", "dm", "mention", "edit", "delete", "react", "join", "open_home", "emit", "click",
    "fail", "lose_answer", "rate_limit", "slow", "heal", "duplicate_next", "drop_acks",
    "dead_tickets", "lose_sockets_after_delivery", "close_at_hello", "lose_sockets",
    "black_hole", "disconnect", "send_frame",
)  # fmt: skip


class Controlled(Protocol):
    """What is read here of `StandInSlack`; the names of ACTIONS are its methods."""

    app_token: str
    bot_token: str
    journal: Journal
    workspace: Workspace
    sockets: Sockets

    @property
    def api_url(self) -> str: ...
    def posts(self, channel: str | None, thread_ts: str | None) -> list[Post]: ...


def add_routes(app: web.Application, slack: Controlled) -> None:
    app.router.add_get("/_/info", partial(_info, slack))
    app.router.add_post("/_/control", partial(_control, slack))
    app.router.add_get("/_/journal", partial(_journal, slack))
    app.router.add_get("/_/posts", partial(_posts, slack))
    app.router.add_get("/_/messages", partial(_messages, slack))


async def _info(slack: Controlled, _request: web.Request) -> web.Response:
    workspace = slack.workspace
    facts = {
        "api_url": slack.api_url,
        "app_token": slack.app_token,
        "bot_token": slack.bot_token,
        "team": workspace.team,
        "bot_user": workspace.bot_user,
        "people": [dataclasses.asdict(person) for person in workspace.people.values()],
        "channels": [
            {"id": c.id, "name": c.name, "kind": c.kind, "members": sorted(c.members)}
            for c in workspace.channels.values()
        ],
        "sockets": len(slack.sockets.open),
        "entries": len(slack.journal.entries),
    }
    return web.json_response(facts)


async def _control(slack: Controlled, request: web.Request) -> web.Response:
    try:
        order = await request.json()
        name = order.pop("do")
        if name not in ACTIONS:
            return web.json_response({"ok": False, "error": "unknown_action"}, status=400)
        result = getattr(slack, name)(**order)
        if inspect.isawaitable(result):
            result = await result
    except RefusedError as refusal:
        return web.json_response({"ok": False, "error": refusal.code}, status=400)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        return web.json_response({"ok": False, "error": str(error)}, status=400)
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        result = dataclasses.asdict(result)
    return web.json_response({"ok": True, "result": result})


async def _journal(slack: Controlled, request: web.Request) -> web.Response:
    since = int(request.query.get("since", "0"))
    wait = float(request.query.get("wait", "0"))
    kinds = {kind for kind in request.query.get("kind", "").split(",") if kind}

    def news() -> list[Json]:
        entries = slack.journal.entries[since:]
        return [entry for entry in entries if not kinds or entry["kind"] in kinds]

    found = news()
    if wait and not found:
        try:
            found = await slack.journal.wait_until(news, within=min(wait, 60.0))
        except TimeoutError:
            found = []
    return web.json_response(found)


async def _posts(slack: Controlled, request: web.Request) -> web.Response:
    posts = slack.posts(request.query.get("channel"), request.query.get("thread_ts"))
    return web.json_response([dataclasses.asdict(post) for post in posts])


async def _messages(slack: Controlled, request: web.Request) -> web.Response:
    channel = slack.workspace.channels.get(request.query.get("channel", ""))
    return web.json_response(list(channel.messages.values()) if channel else [])
