"""The stand-in invents no field: each one that it emits occurs in Slack's published samples."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from daemon.demo.slack import Delivering, StandInSlack

DATA = Path(__file__).parents[1] / "data" / "slack"
PUBLISHED = json.loads((DATA / "published_fields.json").read_text())
EVENT_SAMPLES = {
    ("message", None): "Message",
    ("message", "file_share"): "MessageFileShare",
    ("message", "thread_broadcast"): "MessageThreadBroadcast",
    ("message", "message_changed"): "MessageChanged",
    ("message", "message_deleted"): "MessageDeleted",
    ("message", "channel_join"): "MessageChannelJoin",
    ("app_mention", None): "AppMention",
    ("member_joined_channel", None): "MemberJoinedChannel",
    ("reaction_added", None): "ReactionAdded",
    ("reaction_removed", None): "ReactionRemoved",
    ("app_home_opened", None): "AppHomeOpened",
}
BUTTON = {"type": "button", "action_id": "go", "text": {"type": "plain_text", "text": "Go"}}
ACTIONS = [{"type": "actions", "block_id": "b", "elements": [BUTTON]}]
METADATA = {"event_type": "agent_reply", "event_payload": {"d": "1"}}


def _reducer() -> Any:
    spec = importlib.util.spec_from_file_location("reducer", DATA / "reduce_published.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REDUCER = _reducer()


def unpublished(payload: Any, published: list[str]) -> set[str]:
    """The paths in a payload that no sample has."""
    opaque = frozenset(REDUCER.OPAQUE - {"view"})
    strange: set[str] = REDUCER.paths(payload, opaque=opaque) - set(published)
    for part, found in REDUCER.shared_parts(payload).items():
        strange |= {f"{part}: {path}" for path in found - set(PUBLISHED["shared"][part])}
    return strange


def published_for(method: str) -> list[str]:
    """The paths of a method's answer. One message is one shape, however it is read; the agents'
    methods have no sample yet, and answer as the assistant's do.
    """
    api: dict[str, list[str]] = PUBLISHED["api"]
    if method == "conversations.replies":
        return api[method] + api["conversations.history"]
    return api[method.replace("agents.sessions", "assistant.threads")]


class Caller:
    """The bot, without any Slack package."""

    def __init__(self, slack: StandInSlack, http: aiohttp.ClientSession) -> None:
        self.slack = slack
        self.http = http

    async def __call__(self, method: str, **args: Any) -> Any:
        app = method == "apps.connections.open"
        token = self.slack.app_token if app else self.slack.bot_token
        headers = {"Authorization": f"Bearer {token}"}
        url = self.slack.api_url + method
        async with self.http.post(url, json=args, headers=headers) as answer:
            body = await answer.json()
        assert body["ok"], (method, body)
        return body


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    async with StandInSlack(delivering=Delivering(hold_unconnected=True)) as running:
        yield running


async def _talk(slack: StandInSlack, call: Caller) -> None:
    """Each thing that people do, each message that a bot makes and reads back."""
    root = slack.mention("U0002", "C0001", "a question")
    slack.mention("U0006", "C0004", "from elsewhere")
    slack.dm("U0003", "in private")
    slack.say("U0001", "G0001", "<@U0BOT> in a group", order="mention_first")
    slack.say("U0002", "C0001", "a file", root.ts, attached=[("a.txt", "text", "text/plain")])
    slack.edit("C0001", root.ts, "<@U0BOT> a better question")
    slack.delete("C0001", slack.say("U0003", "C0001", "never mind").ts)
    slack.join("U0005", "C0002")
    slack.open_home("U0002")
    thread = {"channel": "C0001", "thread_ts": root.ts}
    post = await call("chat.postMessage", markdown_text="*so*", metadata=METADATA, **thread)
    await call("chat.postMessage", text="all", reply_broadcast=True, **thread)
    button = await call("chat.postMessage", text="press", blocks=ACTIONS, **thread)
    await call("chat.update", channel="C0001", ts=post["ts"], text="better", metadata=METADATA)
    await call("chat.postEphemeral", text="psst", user="U0002", **thread)
    recipient = {"recipient_team_id": "T0001", "recipient_user_id": "U0002"}
    stream = await call("chat.startStream", **thread, **recipient)
    at = {"channel": "C0001", "ts": stream["ts"]}
    await call("chat.appendStream", markdown_text="one", **at)
    card = {"type": "task_update", "id": "t", "title": "step", "status": "complete"}
    await call("chat.appendStream", chunks=[card], **at)
    await call("chat.stopStream", markdown_text="two", metadata=METADATA, **at)
    await call("reactions.add", channel="C0001", timestamp=root.ts, name="eyes")
    await call("reactions.remove", channel="C0001", timestamp=root.ts, name="eyes")
    await call("reactions.add", channel="C0001", timestamp=root.ts, name="ok")
    slack.react("U0002", "C0001", post["ts"], "x")
    await call("conversations.history", channel="C0001", limit=1, include_all_metadata=True)
    await call("conversations.replies", channel="C0001", ts=root.ts, include_all_metadata=True)
    await call("chat.delete", channel="C0001", ts=post["ts"])
    trigger = slack.click("U0002", "C0001", button["ts"], "go")
    view = {"type": "modal", "title": {"type": "plain_text", "text": "Why"}, "blocks": ACTIONS}
    opened = await call("views.open", trigger_id=trigger, view=view)
    await call("views.update", view_id=opened["view"]["id"], view=view)


async def _rest(slack: StandInSlack, call: Caller) -> None:
    """The other methods."""
    for user in slack.workspace.people:
        await call("users.info", user=user)
    for channel in ("C0001", "C0003", "C0004", "G0001", slack.workspace.direct("U0001").id):
        await call("conversations.info", channel=channel)
    await call("conversations.open", users="U0001")
    await call("users.conversations", types="public_channel,private_channel,im,mpim", limit=3)
    await call("auth.test")
    await call("team.info")
    await call("apps.connections.open")
    where = {"channel_id": "C0001", "thread_ts": "1700000000.000001"}
    await call("assistant.threads.setStatus", status="is thinking", **where)
    await call("assistant.threads.setTitle", title="A title", **where)
    prompts = [{"title": "Ask", "message": "What is new?"}]
    await call("assistant.threads.setSuggestedPrompts", prompts=prompts, **where)
    await call("agents.sessions.setStatus", status="processing", **where)
    await call("views.publish", user_id="U0001", view={"type": "home", "blocks": ACTIONS})
    up = await call("files.getUploadURLExternal", filename="a.txt", length=4)
    async with call.http.post(up["upload_url"], data=b"text") as answer:
        assert answer.status == 200
    files = [{"id": up["file_id"], "title": "A"}]
    await call("files.completeUploadExternal", files=files, channel_id="C0001")
    await call("files.info", file=up["file_id"])


async def test_every_emitted_field_is_in_a_published_sample(slack: StandInSlack) -> None:
    async with aiohttp.ClientSession() as http:
        call = Caller(slack, http)
        await _talk(slack, call)
        await _rest(slack, call)
    strange: dict[str, set[str]] = {}
    for entry in slack.calls():
        if found := unpublished(entry["result"], published_for(entry["method"])):
            strange.setdefault(entry["method"], set()).update(found)
    seen = set()
    for entry in slack.journal.of("event"):
        kind = (entry["type"], entry["subtype"])
        seen.add(kind)
        if found := unpublished(entry["payload"], PUBLISHED["events"][EVENT_SAMPLES[kind]]):
            strange.setdefault(str(kind), set()).update(found)
    for entry in slack.journal.of("interaction"):
        if found := unpublished(entry["payload"], PUBLISHED["interactive"]["block_actions"]):
            strange.setdefault("block_actions", set()).update(found)
    assert strange == {}
    assert seen == EVENT_SAMPLES.keys()
    assert {call["method"] for call in slack.calls()} - {"agents.sessions.setStatus"} == set(
        PUBLISHED["api"]
    )


async def test_every_frame_of_socket_mode_has_the_published_fields(slack: StandInSlack) -> None:
    frames: dict[str, Any] = {}
    async with aiohttp.ClientSession() as http:
        ticket = await Caller(slack, http)("apps.connections.open")
        async with http.ws_connect(ticket["url"]) as ws:
            slack.say("U0002", "C0001", "hello")
            post = await Caller(slack, http)("chat.postMessage", channel="C0001", blocks=ACTIONS)
            slack.click("U0002", "C0001", post["ts"], "go")
            await slack.wait_connected()
            await slack.disconnect("warning")
            async with asyncio.timeout(20):
                while frames.keys() != {"hello", "events_api", "interactive", "disconnect"}:
                    frame = await ws.receive_json()
                    frames[frame["type"]] = {**frame}
    for kind, frame in frames.items():
        if "payload" in frame:
            frame["payload"] = None
        assert unpublished(frame, PUBLISHED["frames"][kind]) == set()
