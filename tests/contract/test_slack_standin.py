"""Slack's own Python libraries really work against the stand-in, traps of theirs included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import AsyncConnectionErrorRetryHandler
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient

from daemon.demo.slack import Delivering, StandInSlack

PING = 0.2  # seconds; the stock client pauses this long between two attempts to connect


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    quick = Delivering(ack_timeout=0.5, retry_delays=(0.0, 0.1, 0.1))
    async with StandInSlack(delivering=quick) as running:
        yield running


@pytest.fixture
async def web(slack: StandInSlack) -> AsyncIterator[AsyncWebClient]:
    async with aiohttp.ClientSession() as session:
        yield AsyncWebClient(
            token=slack.bot_token, base_url=slack.api_url, session=session, retry_handlers=[]
        )


@asynccontextmanager
async def socket(slack: StandInSlack, *, acking: bool = True) -> AsyncIterator[SocketModeClient]:
    async def answer(client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        if acking:
            await client.send_socket_mode_response(SocketModeResponse(request.envelope_id))

    async with aiohttp.ClientSession() as session:
        web_client = AsyncWebClient(base_url=slack.api_url, session=session)
        client = SocketModeClient(slack.app_token, web_client=web_client, ping_interval=PING)
        client.socket_mode_request_listeners.append(answer)
        connecting = asyncio.create_task(client.connect())  # type: ignore[no-untyped-call]
        try:
            yield client
        finally:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await client.close()  # type: ignore[no-untyped-call]


async def test_bolt_hears_a_mention_and_answers_in_its_thread(slack: StandInSlack) -> None:
    web_client = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url)
    app = AsyncApp(client=web_client)

    @app.event("app_mention")
    async def answer(event: dict[str, Any], say: Any) -> None:
        await say(text=f"you said {event['text']}", thread_ts=event["ts"])

    @app.event("message")
    async def ignore() -> None:
        return

    handler = AsyncSocketModeHandler(app, slack.app_token, web_client=web_client)
    await handler.connect_async()  # type: ignore[no-untyped-call]
    try:
        await slack.wait_connected()
        said = slack.mention("U0002", "C0001", "good morning")
        post = await slack.wait_for_answer(said)
        assert post.text == "you said <@U0BOT> good morning"
        await slack.wait_for_ack(said)
    finally:
        await handler.close_async()  # type: ignore[no-untyped-call]


async def test_a_post_is_read_back_with_its_metadata_only_when_asked(
    slack: StandInSlack, web: AsyncWebClient
) -> None:
    said = slack.say("U0002", "C0001", "a question")
    metadata = {"event_type": "agent_reply", "event_payload": {"d": "1"}}
    posted = await web.chat_postMessage(
        channel="C0001", thread_ts=said.ts, markdown_text="**an** answer", metadata=metadata
    )
    plain = await web.conversations_replies(channel="C0001", ts=said.ts)
    full = await web.conversations_replies(channel="C0001", ts=said.ts, include_all_metadata=True)
    assert [m["ts"] for m in full["messages"]] == [said.ts, posted["ts"]]
    assert full["messages"][1]["metadata"] == metadata
    assert "metadata" not in plain["messages"][1]


async def test_an_update_replaces_the_text(slack: StandInSlack, web: AsyncWebClient) -> None:
    posted = await web.chat_postMessage(channel="C0001", text="before")
    await web.chat_update(channel="C0001", ts=posted["ts"], text="after")
    assert [post.text for post in slack.posts("C0001")] == ["after"]


async def test_a_lost_answer_makes_the_default_client_post_twice(slack: StandInSlack) -> None:
    async with aiohttp.ClientSession() as session:
        web = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url, session=session)
        assert isinstance(web.retry_handlers[0], AsyncConnectionErrorRetryHandler)
        slack.lose_answer("chat.postMessage")
        assert (await web.chat_postMessage(channel="C0001", text="hi"))["ok"]
    assert [post.text for post in slack.posts("C0001")] == ["hi", "hi"]


async def test_a_lost_answer_without_retries_is_an_error_and_one_post(
    slack: StandInSlack, web: AsyncWebClient
) -> None:
    slack.lose_answer("chat.postMessage")
    with pytest.raises(aiohttp.ClientError):
        await web.chat_postMessage(channel="C0001", text="hi")
    assert [post.text for post in slack.posts("C0001")] == ["hi"]


async def test_a_dead_ticket_deafens_the_stock_client_until_it_is_forgotten(
    slack: StandInSlack,
) -> None:
    async with socket(slack) as client:
        await slack.wait_connected()
        slack.dead_tickets(1)
        since = len(slack.journal.entries)
        await slack.disconnect("refresh_requested", close_after=0.0)
        refusals = 0

        def refused_thrice(entry: dict[str, Any]) -> bool:
            nonlocal refusals
            refusals += int(entry["kind"] == "socket" and entry["what"] == "refused")
            return refusals == 3

        await slack.wait_for(refused_thrice, since=since)
        assert len(slack.calls("apps.connections.open")) == 2
        client.wss_uri = None
        await slack.wait_connected()
        said = slack.say("U0002", "C0001", "still there?")
        await slack.wait_for_ack(said)


async def test_a_429_carries_retry_after_and_posts_nothing(
    slack: StandInSlack, web: AsyncWebClient
) -> None:
    slack.rate_limit("chat.postMessage", retry_after=7)
    with pytest.raises(SlackApiError) as raised:
        await web.chat_postMessage(channel="C0001", text="hi")
    assert raised.value.response.headers["Retry-After"] == "7"
    assert slack.posts() == []
