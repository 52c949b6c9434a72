"""The Slack stand-in's Web API: what it answers, refuses and keeps, asked without Slack's SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from daemon.demo.slack import StandInSlack

THREAD = {"channel": "C0001", "thread_ts": "1700000000.000001"}
RECIPIENT = {"recipient_team_id": "T0001", "recipient_user_id": "U0002"}


class Bot:
    """Calls by POST with JSON, unless told otherwise."""

    def __init__(self, slack: StandInSlack, http: aiohttp.ClientSession) -> None:
        self.slack = slack
        self.http = http
        self.headers = {"Authorization": f"Bearer {slack.bot_token}"}

    async def __call__(self, method: str, **args: Any) -> Any:
        url = self.slack.api_url + method
        async with self.http.post(url, json=args, headers=self.headers) as answer:
            return await answer.json()

    async def refused(self, method: str, **args: Any) -> str:
        body = await self(method, **args)
        assert body["ok"] is False
        return str(body["error"])


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    async with StandInSlack() as running:
        yield running


@pytest.fixture
async def bot(slack: StandInSlack) -> AsyncIterator[Bot]:
    async with aiohttp.ClientSession() as http:
        yield Bot(slack, http)


async def test_a_token_is_asked_for_and_told_apart(slack: StandInSlack, bot: Bot) -> None:
    good = bot.headers
    bot.headers = {}
    assert await bot.refused("auth.test") == "not_authed"
    bot.headers = {"Authorization": "Bearer xoxb-wrong"}
    assert await bot.refused("auth.test") == "invalid_auth"
    bot.headers = {"Authorization": f"Bearer {slack.app_token}"}
    assert await bot.refused("chat.postMessage", channel="C0001") == "not_allowed_token_type"
    bot.headers = good
    assert await bot.refused("apps.connections.open") == "not_allowed_token_type"
    assert (await bot("auth.test"))["user_id"] == "U0BOT"


@pytest.mark.parametrize("style", ["query", "form", "json"])
async def test_arguments_come_as_query_form_or_json(
    slack: StandInSlack, bot: Bot, style: str
) -> None:
    said = slack.say("U0002", "C0001", "hello")
    args = {"channel": "C0001", "ts": said.ts, "include_all_metadata": "true"}
    url = slack.api_url + "conversations.replies"
    if style == "query":
        asked = bot.http.get(url, params=args, headers=bot.headers)
    elif style == "form":
        asked = bot.http.post(url, data=args | {"token": slack.bot_token})
    else:
        asked = bot.http.post(url, json=args, headers=bot.headers)
    async with asked as answer:
        body = await answer.json()
    assert [message["text"] for message in body["messages"]] == ["hello"]


async def test_nested_arguments_of_a_form_are_json_texts(slack: StandInSlack, bot: Bot) -> None:
    metadata = '{"event_type": "agent_reply", "event_payload": {"d": "7"}}'
    form = {"channel": "C0001", "text": "hi", "metadata": metadata}
    url = slack.api_url + "chat.postMessage"
    async with bot.http.post(url, data=form, headers=bot.headers) as answer:
        assert (await answer.json())["ok"]
    [post] = slack.posts()
    assert post.metadata == {"event_type": "agent_reply", "event_payload": {"d": "7"}}


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"channel": "C9999", "text": "x"}, "channel_not_found"),
        ({"channel": "C0005", "text": "x"}, "not_in_channel"),
        ({"channel": "C0001"}, "no_text"),
        ({"channel": "C0001", "text": "x", "markdown_text": "x"}, "markdown_text_conflict"),
        ({"channel": "C0001", "markdown_text": "x" * 12_001}, "msg_too_long"),
        ({"channel": "C0001", "text": "x", "thread_ts": "soon"}, "invalid_thread_ts"),
        ({"channel": "C0001", "text": "x", "metadata": {"d": 1}}, "invalid_metadata_format"),
        ({"channel": "C0001", "blocks": [{"type": "divider"}] * 51}, "invalid_blocks"),
    ],
)
async def test_a_post_is_refused_by_name_and_leaves_nothing(
    slack: StandInSlack, bot: Bot, args: dict[str, Any], error: str
) -> None:
    assert await bot.refused("chat.postMessage", **args) == error
    assert slack.posts() == []


async def test_the_longest_markdown_is_taken_whole(slack: StandInSlack, bot: Bot) -> None:
    assert (await bot("chat.postMessage", channel="C0001", markdown_text="x" * 12_000))["ok"]
    assert len(slack.posts()[0].text) == 12_000


async def test_no_two_messages_have_one_ts(slack: StandInSlack) -> None:
    stamps = [slack.workspace.next_ts() for _ in range(20_000)]
    assert len(set(stamps)) == 20_000
    assert stamps == sorted(stamps)


async def test_a_reply_to_a_reply_joins_its_thread(slack: StandInSlack, bot: Bot) -> None:
    root = slack.say("U0002", "C0001", "root")
    reply = slack.say("U0003", "C0001", "reply", root.ts)
    await bot("chat.postMessage", channel="C0001", text="answer", thread_ts=reply.ts)
    assert [post.thread_ts for post in slack.posts()] == [root.ts]
    history = await bot("conversations.history", channel="C0001")
    [seen] = history["messages"]
    assert (seen["reply_count"], seen["reply_users"]) == (2, ["U0003", "U0BOT"])


async def test_replies_come_in_pages_with_the_root_on_the_first(
    slack: StandInSlack, bot: Bot
) -> None:
    root = slack.say("U0002", "C0001", "root")
    wanted = [root.ts, *(slack.say("U0002", "C0001", str(n), root.ts).ts for n in range(5))]
    where = {"channel": "C0001", "ts": root.ts, "limit": 2}
    pages, cursor = [], ""
    while True:
        page = await bot("conversations.replies", cursor=cursor, **where)
        pages.append([message["ts"] for message in page["messages"]])
        if not page["has_more"]:
            break
        cursor = page["response_metadata"]["next_cursor"]
    assert [len(page) for page in pages] == [2, 2, 2]
    assert [ts for page in pages for ts in page] == wanted


async def test_oldest_and_latest_bound_a_reading(slack: StandInSlack, bot: Bot) -> None:
    said = [slack.say("U0002", "C0001", str(n)) for n in range(4)]

    async def texts(**bounds: Any) -> list[str]:
        history = await bot("conversations.history", channel="C0001", **bounds)
        return [message["text"] for message in history["messages"]]

    assert await texts() == ["3", "2", "1", "0"]
    assert await texts(oldest=said[1].ts) == ["3", "2"]
    assert await texts(oldest=said[1].ts, inclusive=True) == ["3", "2", "1"]
    assert await texts(oldest=said[0].ts, latest=said[3].ts) == ["2", "1"]


async def test_replies_after_oldest_keep_the_root(slack: StandInSlack, bot: Bot) -> None:
    root = slack.say("U0002", "C0001", "root")
    first = slack.say("U0002", "C0001", "first", root.ts)
    slack.say("U0002", "C0001", "second", root.ts)
    found = await bot("conversations.replies", channel="C0001", ts=root.ts, oldest=first.ts)
    assert [message["text"] for message in found["messages"]] == ["root", "second"]
    gone = await bot.refused("conversations.replies", channel="C0001", ts="1700000000.000001")
    assert gone == "thread_not_found"


async def test_only_own_messages_are_updated_and_deleted(slack: StandInSlack, bot: Bot) -> None:
    theirs = slack.say("U0002", "C0001", "mine").ts
    assert (
        await bot.refused("chat.update", channel="C0001", ts=theirs, text="x")
        == "cant_update_message"
    )
    assert await bot.refused("chat.delete", channel="C0001", ts=theirs) == "cant_delete_message"
    own = (await bot("chat.postMessage", channel="C0001", text="own"))["ts"]
    assert (await bot("chat.delete", channel="C0001", ts=own))["ok"]
    assert await bot.refused("chat.update", channel="C0001", ts=own, text="x") == (
        "message_not_found"
    )


async def test_people_are_told_apart(bot: Bot) -> None:
    async def person(user: str) -> dict[str, Any]:
        found: dict[str, Any] = (await bot("users.info", user=user))["user"]
        return found

    member, guest, alien = await person("U0002"), await person("U0004"), await person("U0006")
    assert (member["is_restricted"], member["is_ultra_restricted"]) == (False, False)
    assert (guest["is_restricted"], guest["is_ultra_restricted"]) == (True, False)
    assert (await person("U0005"))["is_ultra_restricted"] is True
    assert (alien["is_stranger"], alien["team_id"]) == (True, "T0002")
    assert (await person("U0007"))["is_bot"] is True
    assert await bot.refused("users.info", user="U9999") == "user_not_found"


async def test_a_stream_grows_and_ends_once(slack: StandInSlack, bot: Bot) -> None:
    assert await bot.refused("chat.startStream", **THREAD) == "missing_recipient_team_id"
    ts = (await bot("chat.startStream", markdown_text="a", **THREAD, **RECIPIENT))["ts"]
    at = {"channel": "C0001", "ts": ts}
    await bot("chat.appendStream", markdown_text="b", **at)
    assert await bot.refused("chat.update", text="x", **at) == "streaming_state_conflict"
    await bot("chat.stopStream", markdown_text="c", **at)
    assert [post.text for post in slack.posts()] == ["abc"]
    late = await bot.refused("chat.appendStream", markdown_text="d", **at)
    assert late == "message_not_in_streaming_state"
    assert await bot.refused("chat.stopStream", **at) == "message_not_in_streaming_state"
    assert (await bot("chat.update", text="whole", **at))["ok"]


async def test_an_old_stream_is_over(slack: StandInSlack, bot: Bot) -> None:
    slack.workspace.stream_seconds = 0.0
    ts = (await bot("chat.startStream", **THREAD, **RECIPIENT))["ts"]
    late = await bot.refused("chat.stopStream", channel="C0001", ts=ts)
    assert late == "message_not_in_streaming_state"


async def test_a_long_stream_is_refused_and_keeps_what_it_had(
    slack: StandInSlack, bot: Bot
) -> None:
    text = "x" * 12_000
    ts = (await bot("chat.startStream", markdown_text=text, **THREAD, **RECIPIENT))["ts"]
    over = await bot.refused("chat.appendStream", channel="C0001", ts=ts, markdown_text="y")
    assert over == "msg_too_long"
    assert slack.posts()[0].text == text


async def test_limits_answer_429_and_let_the_other_channel_post(bot: Bot) -> None:
    async with StandInSlack(limits=True) as strict:
        url = strict.api_url + "chat.postMessage"

        async def post(channel: str) -> tuple[int, str | None]:
            form = {"channel": channel, "text": "x", "token": strict.bot_token}
            async with bot.http.post(url, data=form) as answer:
                return answer.status, answer.headers.get("Retry-After")

        assert [await post("C0001") for _ in range(4)] == [(200, None)] * 3 + [(429, "1")]
        assert await post("C0002") == (200, None)
        assert len(strict.posts("C0001")) == 3


async def test_faults_strike_as_often_as_told(slack: StandInSlack, bot: Bot) -> None:
    slack.fail("chat.*", "status", status=503, times=1)
    slack.fail("auth.test", code="account_inactive", times=None)
    url = slack.api_url + "chat.postMessage"
    form = {"channel": "C0001", "text": "x"}
    async with bot.http.post(url, data=form, headers=bot.headers) as answer:
        assert answer.status == 503
    assert slack.posts() == []
    assert (await bot("chat.postMessage", **form))["ok"]
    assert await bot.refused("auth.test") == "account_inactive"
    assert await bot.refused("auth.test") == "account_inactive"
    slack.heal()
    assert (await bot("auth.test"))["ok"]


async def test_a_call_that_hangs_may_have_been_carried_out(slack: StandInSlack, bot: Bot) -> None:
    slack.fail("chat.postMessage", "hang", performed=True)
    url = slack.api_url + "chat.postMessage"
    wait = aiohttp.ClientTimeout(total=0.1)
    with pytest.raises(TimeoutError):
        await bot.http.post(
            url, json={"channel": "C0001", "text": "x"}, headers=bot.headers, timeout=wait
        )
    await slack.wait_for_posts("C0001")
    assert slack.calls()[-1]["answer"] == "hang"


async def test_a_file_goes_up_and_comes_down_for_the_bot_only(
    slack: StandInSlack, bot: Bot
) -> None:
    up = await bot("files.getUploadURLExternal", filename="notes.txt", length=5)
    early = await bot.refused("files.completeUploadExternal", files=[{"id": up["file_id"]}])
    assert early == "file_not_found"
    async with bot.http.post(up["upload_url"], data=b"bytes") as answer:
        assert answer.status == 200
    files = [{"id": up["file_id"], "title": "Notes"}]
    [file] = (await bot("files.completeUploadExternal", files=files, **_place(THREAD)))["files"]
    [post] = slack.posts("C0001", THREAD["thread_ts"])
    assert post.files == (up["file_id"],)
    async with bot.http.get(file["url_private_download"], headers=bot.headers) as answer:
        assert await answer.read() == b"bytes"
    async with bot.http.get(file["url_private_download"]) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")


def _place(thread: dict[str, str]) -> dict[str, str]:
    return {"channel_id": thread["channel"], "thread_ts": thread["thread_ts"]}


async def test_a_status_is_seen_with_its_thread(slack: StandInSlack, bot: Bot) -> None:
    where = _place(THREAD)
    await bot("assistant.threads.setStatus", status="is thinking", **where)
    seen = await slack.wait_for_status("C0001", THREAD["thread_ts"])
    assert seen["status"] == "is thinking"
    slack.workspace.agent_declared = False
    refused = await bot.refused("agents.sessions.setStatus", status="processing", **where)
    assert refused == "not_authorized"


async def test_a_trigger_opens_one_view(slack: StandInSlack, bot: Bot) -> None:
    button = {"type": "button", "action_id": "go", "text": {"type": "plain_text", "text": "Go"}}
    blocks = [{"type": "actions", "elements": [button]}]
    ts = (await bot("chat.postMessage", channel="C0001", blocks=blocks))["ts"]
    trigger = slack.click("U0002", "C0001", ts, "go")
    assert (await bot("views.open", trigger_id=trigger, view={"type": "modal"}))["ok"]
    again = await bot.refused("views.open", trigger_id=trigger, view={"type": "modal"})
    assert again == "invalid_trigger"


async def test_an_outsider_drives_it_over_http(slack: StandInSlack, bot: Bot) -> None:
    async def control(**order: Any) -> Any:
        async with bot.http.post(f"{slack.url}/_/control", json=order) as answer:
            return await answer.json()

    said = await control(do="mention", user="U0002", channel="C0001", text="hi")
    await bot("chat.postMessage", channel="C0001", text="yes", thread_ts=said["result"]["ts"])
    async with bot.http.get(f"{slack.url}/_/posts", params={"channel": "C0001"}) as answer:
        assert [post["text"] for post in await answer.json()] == ["yes"]
    since = len(slack.journal.entries)
    await control(do="fail", method="auth.test", code="token_revoked")
    assert await bot.refused("auth.test") == "token_revoked"
    query = {"since": str(since), "kind": "call", "wait": "10"}
    async with bot.http.get(f"{slack.url}/_/journal", params=query) as answer:
        assert [call["method"] for call in await answer.json()] == ["auth.test"]
    assert (await control(do="stop"))["error"] == "unknown_action"
    assert (await control(do="say", user="U9999", channel="C0001", text="x"))["ok"] is False


# --- where the bot is, and what it may read ------------------------------------------------------


async def test_the_bots_conversations_are_listed_by_type_and_in_pages(
    slack: StandInSlack, bot: Bot
) -> None:
    slack.dm("U0002", "hello")
    slack.workspace.channels["C0002"].archived = True

    async def listed(**args: Any) -> list[str]:
        ids: list[str] = []
        cursor = ""
        while True:
            page = await bot("users.conversations", limit=2, cursor=cursor, **args)
            ids += [channel["id"] for channel in page["channels"]]
            cursor = page["response_metadata"]["next_cursor"]
            if not cursor:
                return ids

    assert await listed() == ["C0001", "C0002", "C0004"]
    assert await listed(exclude_archived=True) == ["C0001", "C0004"]
    assert await listed(types="im,mpim,private_channel") == ["C0003", "G0001", "D0002"]
    assert await bot.refused("users.conversations", types="every") == "invalid_types"


@pytest.mark.parametrize(
    ("scope", "method", "args"),
    [
        ("im:read", "users.conversations", {"types": "im"}),
        ("channels:history", "conversations.history", {"channel": "C0001"}),
        ("groups:history", "conversations.history", {"channel": "C0003"}),
        ("mpim:history", "conversations.replies", {"channel": "G0001", "ts": "1.1"}),
    ],
)
async def test_a_missing_scope_is_named_with_what_the_token_has(
    slack: StandInSlack, bot: Bot, scope: str, method: str, args: dict[str, Any]
) -> None:
    slack.workspace.scopes.remove(scope)
    refused = await bot(method, **args)
    assert (refused["ok"], refused["error"], refused["needed"]) == (False, "missing_scope", scope)
    assert refused["provided"] == ",".join(slack.workspace.scopes)


async def test_what_was_written_earlier_is_read_in_the_order_of_writing(
    slack: StandInSlack, bot: Bot
) -> None:
    slack.say("U0002", "C0001", "now")
    slack.say("U0002", "C0001", "an hour ago", ago=3600)
    history = await bot("conversations.history", channel="C0001")
    assert [message["text"] for message in history["messages"]] == ["now", "an hour ago"]
