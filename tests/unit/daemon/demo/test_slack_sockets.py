"""The Slack stand-in's Socket Mode: who is told what, how often, and how connections end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError

from daemon.demo.slack import Delivering, StandInSlack


class App:
    """The app's end of Socket Mode: opens connections, reads envelopes, acks when told."""

    def __init__(self, slack: StandInSlack, http: aiohttp.ClientSession) -> None:
        self.slack = slack
        self.http = http
        self.sockets: list[ClientWebSocketResponse] = []  # one that nobody holds is closed

    async def ticket(self) -> str:
        headers = {"Authorization": f"Bearer {self.slack.app_token}"}
        url = self.slack.api_url + "apps.connections.open"
        async with self.http.post(url, headers=headers) as answer:
            return str((await answer.json())["url"])

    async def open(self) -> ClientWebSocketResponse:
        """A connection whose hello has been read."""
        ws = await self.http.ws_connect(await self.ticket())
        self.sockets.append(ws)
        hello = await frame(ws)
        assert hello["type"] == "hello"
        return ws


async def frame(ws: ClientWebSocketResponse) -> dict[str, Any]:
    found: dict[str, Any] = await ws.receive_json(timeout=20)
    return found


async def ack(ws: ClientWebSocketResponse, envelope: dict[str, Any]) -> None:
    await ws.send_json({"envelope_id": envelope["envelope_id"]})


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    patient = Delivering(ack_timeout=20.0, retry_delays=(0.0, 0.02, 0.02))
    async with StandInSlack(delivering=patient) as running:
        yield running


@pytest.fixture
async def app(slack: StandInSlack) -> AsyncIterator[App]:
    async with aiohttp.ClientSession() as http:
        yield App(slack, http)


async def test_hello_counts_the_connections(app: App) -> None:
    await app.open()
    async with app.http.ws_connect(await app.ticket()) as second:
        hello = await frame(second)
    assert hello["num_connections"] == 2
    assert hello["connection_info"] == {"app_id": "A0001"}


async def test_a_ticket_opens_one_connection(app: App) -> None:
    url = await app.ticket()
    await app.http.ws_connect(url)
    with pytest.raises(WSServerHandshakeError) as raised:
        await app.http.ws_connect(url)
    assert raised.value.status == 408


async def test_an_old_or_dead_ticket_opens_none(slack: StandInSlack, app: App) -> None:
    slack.dead_tickets(1)
    dead = await app.ticket()
    slack.sockets.ticket_life = 0.0
    for url in (dead, dead, await app.ticket()):
        with pytest.raises(WSServerHandshakeError) as raised:
            await app.http.ws_connect(url)
        assert raised.value.status == 408


async def test_an_acked_event_comes_once(slack: StandInSlack, app: App) -> None:
    ws = await app.open()
    said = slack.say("U0002", "C0001", "hello")
    envelope = await frame(ws)
    await ack(ws, envelope)
    seen = await slack.wait_for_ack(said)
    event = envelope["payload"]["event"]
    assert (event["text"], event["channel"], event["channel_type"]) == ("hello", "C0001", "channel")
    assert (envelope["retry_attempt"], envelope["retry_reason"]) == (0, "")
    assert seen["event_id"] == envelope["payload"]["event_id"]
    assert len(slack.journal.of("delivery")) == 1


async def test_an_unacked_event_comes_four_times_in_all(slack: StandInSlack, app: App) -> None:
    slack.delivering.ack_timeout = 0.1
    ws = await app.open()
    slack.say("U0002", "C0001", "hello")
    await slack.wait_for(lambda entry: entry["kind"] == "gave_up")
    seen = [await frame(ws) for _ in range(4)]
    assert [(e["retry_attempt"], e["retry_reason"]) for e in seen] == [
        (0, ""), (1, "timeout"), (2, "timeout"), (3, "timeout"),
    ]  # fmt: skip
    assert len({e["payload"]["event_id"] for e in seen}) == 1
    assert len({e["envelope_id"] for e in seen}) == 4


async def test_a_dropped_ack_brings_the_event_again(slack: StandInSlack, app: App) -> None:
    slack.delivering.ack_timeout = 0.1
    slack.drop_acks(1)
    ws = await app.open()
    said = slack.say("U0002", "C0001", "hello")
    await ack(ws, await frame(ws))
    again = await frame(ws)
    await ack(ws, again)
    await slack.wait_for_ack(said)
    assert again["retry_attempt"] == 1


async def test_a_mention_is_two_events_of_one_message(slack: StandInSlack, app: App) -> None:
    ws = await app.open()
    slack.mention("U0002", "C0001", "hello")
    slack.say("U0002", "C0001", "<@U0BOT> again", order="mention_first")
    seen = [(await frame(ws))["payload"] for _ in range(4)]
    kinds = [body["event"]["type"] for body in seen]
    assert kinds == ["message", "app_mention", "app_mention", "message"]
    assert len({body["event_id"] for body in seen}) == 4
    assert seen[0]["event"]["ts"] == seen[1]["event"]["ts"]


@pytest.mark.parametrize(
    ("channel", "heard"),
    [
        ("C0001", [("message", "channel"), ("app_mention", None)]),
        ("C0003", [("message", "group"), ("app_mention", None)]),
        ("G0001", [("message", "mpim"), ("app_mention", None)]),
        ("C0005", [("app_mention", None)]),
        ("U0BOT", [("message", "im")]),
    ],
)
async def test_what_a_mention_sends_depends_on_the_channel(
    slack: StandInSlack, channel: str, heard: list[tuple[str, str | None]]
) -> None:
    slack.mention("U0002", channel, "hello")
    events = [entry["payload"]["event"] for entry in slack.journal.of("event")]
    assert [(event["type"], event.get("channel_type")) for event in events] == heard


async def test_a_duplicate_is_one_event_in_two_envelopes(slack: StandInSlack, app: App) -> None:
    ws = await app.open()
    slack.duplicate_next(1)
    slack.say("U0002", "C0001", "twice")
    slack.say("U0002", "C0001", "once")
    seen = [await frame(ws) for _ in range(3)]
    assert [e["payload"]["event"]["text"] for e in seen] == ["twice", "twice", "once"]
    assert seen[0]["payload"]["event_id"] == seen[1]["payload"]["event_id"]


async def test_events_are_spread_over_the_connections(slack: StandInSlack, app: App) -> None:
    for _ in range(3):
        await app.open()
    for n in range(60):
        slack.say("U0002", "C0001", str(n))
    await slack.wait_for(lambda _: len(slack.journal.of("delivery")) >= 60)
    assert {entry["socket"] for entry in slack.journal.of("delivery")} == {1, 2, 3}


async def test_an_ack_by_another_socket_counts_unless_told(slack: StandInSlack, app: App) -> None:
    one, two = await app.open(), await app.open()
    slack.say("U0002", "C0001", "hello")
    reading = {asyncio.create_task(frame(ws)): ws for ws in (one, two)}
    done, rest = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    envelope, [other] = done.pop().result(), [reading[task] for task in rest]
    slack.delivering.ack_any_socket = False
    await ack(other, envelope)
    seen = await slack.wait_for(lambda entry: entry["kind"] == "ack")
    assert seen["counted"] is False
    slack.delivering.ack_any_socket = True
    await ack(other, envelope)
    seen = await slack.wait_for(lambda entry: entry["kind"] == "ack", since=seen["n"])
    assert seen["counted"] is True


async def test_without_a_connection_a_delivery_fails_or_is_held(
    slack: StandInSlack, app: App
) -> None:
    slack.say("U0002", "C0001", "lost")
    gone = await slack.wait_for(lambda entry: entry["kind"] == "gave_up")
    assert gone["reason"] == "connection_failed"
    slack.delivering.hold_unconnected = True
    slack.delivering.retry_delays = ()
    slack.say("U0002", "C0001", "held")
    ws = await app.open()
    assert (await frame(ws))["payload"]["event"]["text"] == "held"


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_socket_goes_just_after_a_delivery(slack: StandInSlack, app: App, how: Any) -> None:
    slack.delivering.ack_timeout = 0.1
    ws = await app.open()
    slack.lose_sockets_after_delivery(1, how)
    slack.say("U0002", "C0001", "hello")
    last = [await ws.receive(timeout=20) for _ in range(2)][-1]
    assert last.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)
    await slack.wait_for(lambda entry: entry["kind"] == "socket" and entry["what"] == "closed")
    assert await frame(await app.open())


async def test_pings_are_answered_until_the_black_hole(slack: StandInSlack, app: App) -> None:
    ws = await app.http.ws_connect(await app.ticket(), autoping=False)
    assert await frame(ws)
    await ws.ping(b"one")
    pong = await ws.receive(timeout=20)
    assert (pong.type, pong.data) == (WSMsgType.PONG, b"one")
    slack.black_hole()
    await ws.ping(b"two")
    slack.say("U0002", "C0001", "into nothing")
    with pytest.raises(TimeoutError):
        await ws.receive(timeout=0.1)
    opening = asyncio.create_task(app.open())
    await slack.wait_for(lambda entry: entry.get("what") == "swallowed")
    assert not opening.done()
    slack.heal()
    await opening
    await ws.ping(b"three")
    kinds = []
    while WSMsgType.PONG not in kinds:
        kinds.append((await ws.receive(timeout=20)).type)


@pytest.mark.parametrize(
    "reason", ["warning", "refresh_requested", "too_many_websockets", "link_disabled"]
)
async def test_a_disconnect_says_why_and_closes(slack: StandInSlack, app: App, reason: Any) -> None:
    ws = await app.open()
    await slack.disconnect(reason, close_after=0.01)
    said = await frame(ws)
    assert (said["type"], said["reason"]) == ("disconnect", reason)
    assert (await ws.receive(timeout=20)).type is WSMsgType.CLOSE


async def test_an_eleventh_connection_is_too_many(app: App) -> None:
    for _ in range(10):
        await app.open()
    said = await frame(await app.open())
    assert said["reason"] == "too_many_websockets"


async def test_a_connection_may_end_at_its_hello(slack: StandInSlack, app: App) -> None:
    slack.close_at_hello(1)
    ws = await app.open()
    assert (await ws.receive(timeout=20)).type is WSMsgType.CLOSE
    assert not (await app.open()).closed


async def test_the_bots_own_post_comes_back_unless_told(slack: StandInSlack, app: App) -> None:
    ws = await app.open()
    url = slack.api_url + "chat.postMessage"
    form = {"channel": "C0001", "text": "mine", "token": slack.bot_token}
    await app.http.post(url, data=form)
    event = (await frame(ws))["payload"]["event"]
    assert (event["bot_id"], event["user"], event["text"]) == ("B0001", "U0BOT", "mine")
    slack.echo = False
    await app.http.post(url, data=form)
    slack.say("U0002", "C0001", "theirs")
    texts = [entry["payload"]["event"]["text"] for entry in slack.journal.of("event")]
    assert texts == ["mine", "theirs"]


async def test_edits_and_deletions_name_the_message(slack: StandInSlack) -> None:
    said = slack.say("U0002", "C0001", "frist")
    slack.edit("C0001", said.ts, "first")
    slack.delete("C0001", said.ts)
    _, edit, deletion = [entry["payload"]["event"] for entry in slack.journal.of("event")]
    assert (edit["subtype"], edit["message"]["ts"]) == ("message_changed", said.ts)
    assert (edit["previous_message"]["text"], edit["message"]["text"]) == ("frist", "first")
    assert edit["message"]["edited"]["user"] == "U0002"
    assert (deletion["subtype"], deletion["deleted_ts"]) == ("message_deleted", said.ts)


async def test_anything_can_be_sent(slack: StandInSlack, app: App) -> None:
    ws = await app.open()
    await slack.send_frame("{not json")
    assert (await ws.receive(timeout=20)).data == "{not json"
    slack.emit({"type": "message", "channel": None}, team_id=7)
    odd = (await frame(ws))["payload"]
    assert (odd["team_id"], odd["event"]) == (7, {"type": "message", "channel": None})


async def test_a_click_is_sent_once_and_may_be_answered(slack: StandInSlack, app: App) -> None:
    ws = await app.open()
    button = {"type": "button", "action_id": "go", "value": "a1"}
    blocks = [{"type": "actions", "block_id": "b", "elements": [button]}]
    slack.echo = False
    url = slack.api_url + "chat.postMessage"
    headers = {"Authorization": f"Bearer {slack.bot_token}"}
    post = {"channel": "C0001", "blocks": blocks}
    async with app.http.post(url, json=post, headers=headers) as answer:
        ts = (await answer.json())["ts"]
    slack.delivering.ack_timeout = 0.1
    slack.click("U0002", "C0001", ts, "go")
    envelope = await frame(ws)
    assert (envelope["type"], envelope["accepts_response_payload"]) == ("interactive", True)
    assert envelope["payload"]["actions"][0]["value"] == "a1"
    await slack.wait_for(lambda entry: entry["kind"] == "gave_up")
    assert len(slack.journal.of("delivery")) == 1
