"""What Slack's payloads mean: tables, and any JSON at all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.slack.inbound import Bot, Parsed, Skipped, parse
from daemon.model import Deleted, Edited, Identity, Ignored, Message, Stop, Trust, Unreadable

BOT = Bot(team="T1", user="U0BOT", bot="B1", name="postroom")
TS, ROOT = "1700000001.000200", "1700000000.000100"


class Known:
    """A directory of one member (UBEA), one refused guest (UGIL) and one operator (UADA)."""

    def judge(self, user: str, home: str | None, name: str | None) -> Identity | None:
        if home not in (None, "T1"):
            return Identity(f"slack:{home}:{user}", name or user, Trust.PUBLIC, "not answered")
        return {
            "UBEA": Identity("slack:T1:UBEA", "bea", Trust.MEMBER),
            "UADA": Identity("slack:T1:UADA", "ada", Trust.OPERATOR),
            "UGIL": Identity("slack:T1:UGIL", "gil", Trust.PUBLIC, "not answered"),
        }.get(user)

    def name_of(self, user: str) -> str | None:
        return {"UBEA": "bea", "UADA": "ada"}.get(user)


def body(**event: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "type": "message",
        "channel": "C1",
        "channel_type": "channel",
        "user": "UBEA",
        "text": "<@U0BOT> hello",
        "ts": TS,
        "team": "T1",
    }
    whole |= event
    whole = {name: value for name, value in whole.items() if value is not None}
    return {"type": "event_callback", "team_id": "T1", "event_id": "Ev1", "event": whole}


def read(working: str | None = None, **event: Any) -> Parsed:
    return parse("slack", body(**event), BOT, Known(), lambda _channel: working)


def message(**event: Any) -> Message:
    found = read(**event)
    assert isinstance(found, Message)
    return found


def test_a_mention_begins_a_conversation() -> None:
    found = message(client_msg_id="m-1")
    assert found.conversation == f"slack:T1:C1:{TS}"
    assert found.outside_id == f"T1:C1:{TS}"
    assert found.alternate_id == "T1:C1:UBEA:m-1"
    assert (found.text, found.addressed) == ("hello", True)
    assert (found.sender.id, found.sender.name) == ("slack:T1:UBEA", "bea")
    assert found.sender.trust is Trust.MEMBER
    assert found.target == {"channel": "C1", "thread_ts": TS, "user": "UBEA"}
    assert found.sent_at == pytest.approx(1700000001.0002)


def test_both_events_of_a_mention_are_one_message() -> None:
    assert message() == message(type="app_mention", channel_type=None)


@pytest.mark.parametrize(
    ("event", "conversation", "addressed"),
    [
        ({"thread_ts": ROOT, "text": "and now?"}, f"slack:T1:C1:{ROOT}", False),
        ({"thread_ts": ROOT}, f"slack:T1:C1:{ROOT}", True),
        ({"thread_ts": TS}, f"slack:T1:C1:{TS}", True),
        ({"text": "hi <@U0BOT|postroom>!"}, f"slack:T1:C1:{TS}", True),
        ({"type": "app_mention", "text": "nothing"}, f"slack:T1:C1:{TS}", True),
        ({"channel": "D1", "channel_type": "im", "text": "hi"}, f"slack:T1:D1:{TS}", True),
        ({"channel": "D1", "channel_type": None, "text": "hi"}, f"slack:T1:D1:{TS}", True),
        (
            {"channel": "D1", "channel_type": "im", "text": "hi", "thread_ts": ROOT},
            f"slack:T1:D1:{ROOT}",
            True,
        ),
        ({"channel": "G1", "channel_type": "mpim"}, f"slack:T1:G1:{TS}", True),
        (
            {"channel_type": "mpim", "text": "go on", "thread_ts": ROOT},
            f"slack:T1:C1:{ROOT}",
            False,
        ),
        (
            {"subtype": "thread_broadcast", "thread_ts": ROOT, "text": "x"},
            f"slack:T1:C1:{ROOT}",
            False,
        ),
        (
            {
                "text": "",
                "blocks": [
                    {
                        "type": "rich_text",
                        "elements": [
                            {
                                "type": "rich_text_section",
                                "elements": [{"type": "user", "user_id": "U0BOT"}],
                            }
                        ],
                    }
                ],
            },
            f"slack:T1:C1:{TS}",
            True,
        ),
    ],
)
def test_where_a_message_belongs_and_whether_it_is_addressed(
    event: dict[str, Any], conversation: str, addressed: bool
) -> None:
    found = message(**event)
    assert (found.conversation, found.addressed) == (conversation, addressed)


@pytest.mark.parametrize(
    "event",
    [
        {"text": "hello all"},
        {"channel_type": "mpim", "text": "hello all"},
        {"user": "U0BOT"},
        {"bot_id": "B1"},
        {"bot_id": "B2", "subtype": "bot_message"},
        {"bot_id": "B2"},
        {"user": "USLACKBOT", "channel": "D1"},
        {"hidden": True, "channel": "D1"},
        {"subtype": "message_changed", "hidden": True, "message": {"text": "x"}},
        {"subtype": "message_deleted", "hidden": True},
        {"subtype": "channel_join"},
        {"subtype": ["file_share"]},
        {"type": "reaction_added"},
        {"type": "app_home_opened"},
    ],
)
def test_noise_leaves_nothing_behind(event: dict[str, Any]) -> None:
    assert isinstance(read(**event), Skipped)


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "block_actions", "actions": []},
        {"type": "view_submission"},
        {"command": "/agent", "text": "status"},
        {"type": "app_rate_limited", "minute_rate_limited": 1},
    ],
)
def test_other_payloads_are_acknowledged_and_left(payload: dict[str, Any]) -> None:
    assert isinstance(parse("slack", payload, BOT, Known()), Skipped)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        "text",
        {},
        {"unreadable": [1]},
        {"type": "event_callback"},
        {"type": "event_callback", "event": []},
        {"type": "event_callback", "event": {"type": 5}},
        body(ts=None),
        body(ts="yesterday"),
        body(ts=12.5),
        body(channel={"id": "C1"}),
        body(channel="C1/../../x"),
        body(user=None),
        body(user="u; drop"),
        body(thread_ts=["x"]),
        body(type="app_mention", ts="1e400"),
    ],
)
def test_what_makes_no_sense_is_kept_with_its_raw_form(payload: Any) -> None:
    found = parse("slack", payload, BOT, Known())
    assert isinstance(found, Unreadable)
    assert found.reason
    assert json.loads(found.raw) == payload
    assert found == parse("slack", payload, BOT, Known())


def test_two_unreadable_payloads_without_an_id_are_two() -> None:
    first, second = (parse("slack", {"unreadable": n}, BOT, Known()) for n in (1, 2))
    assert isinstance(first, Unreadable)
    assert isinstance(second, Unreadable)
    assert first.outside_id != second.outside_id


def test_somebody_not_seen_before_has_no_trust_yet() -> None:
    found = message(user="UNEW", team=None)
    assert (found.sender.id, found.sender.name, found.sender.trust) == (
        "slack:T1:UNEW",
        "UNEW",
        None,
    )


@pytest.mark.parametrize(
    "event",
    [{"user": "UGIL"}, {"team": "T2"}, {"user_team": "T2"}, {"user_team": "T2", "team": "T1"}],
)
def test_who_is_not_answered_leaves_keys_and_no_text(event: dict[str, Any]) -> None:
    found = read(**event)
    assert found == Ignored("slack", f"T1:C1:{TS}", "not answered", None)


def test_a_person_of_another_organisation_never_carries_an_id_of_ours() -> None:
    class Answering(Known):
        def judge(self, user: str, home: str | None, name: str | None) -> Identity | None:
            return Identity(f"slack:{home}:{user}", name or user, Trust.PUBLIC)

    event = body(user="UADA", user_team="T2", user_profile={"display_name": "Eve"})
    found = parse("slack", event, BOT, Answering())
    assert isinstance(found, Message)
    assert (found.sender.id, found.sender.name) == ("slack:T2:UADA", "Eve")


@pytest.mark.parametrize("text", ["stop", "Stop", "STOP!", " stop. ", "/stop", "<@U0BOT> stop"])
def test_stop_as_a_whole_message_in_a_thread_stops(text: str) -> None:
    found = read(text=text, thread_ts=ROOT)
    assert isinstance(found, Stop)
    assert found.conversation == f"slack:T1:C1:{ROOT}"
    assert found.sender.id == "slack:T1:UBEA"


@pytest.mark.parametrize("text", ["stop it", "don't stop", "nonstop", "<@U0BOT> stop the server"])
def test_stop_within_a_message_is_a_message(text: str) -> None:
    assert isinstance(read(text=text, thread_ts=ROOT), Message)


def test_stop_as_a_new_direct_message_stops_what_is_at_work_there() -> None:
    direct = {"channel": "D1", "channel_type": "im", "text": "stop"}
    found = read(working=ROOT, **direct)
    assert isinstance(found, Stop)
    assert found.conversation == f"slack:T1:D1:{ROOT}"
    assert isinstance(read(working=None, **direct), Message)


def test_who_is_not_answered_stops_nothing() -> None:
    assert isinstance(read(text="stop", thread_ts=ROOT, user="UGIL"), Ignored)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("<@U0BOT> hello", "hello"),
        ("<@U0BOT|postroom>: hello", "hello"),
        ("<@U0BOT>, <@U0BOT> hello", "hello"),
        ("ask <@U0BOT> please", "ask @postroom please"),
        ("<@U0BOT> ask <@UADA> and <@UZED> and <@UZED|zed>", "ask @ada and @UZED and @zed"),
        ("<@U0BOT> in <#C2|general> or <#C3>", "in #general or #C3"),
        ("<@U0BOT> <!here> <!channel|channel> <!subteam^S1|@team>", "@here @channel @team"),
        ("<@U0BOT> at <!date^1700000000^{date}|14 Nov>", "at 14 Nov"),
        ("<@U0BOT> <https://a.example/b?c=1&amp;d=2>", "https://a.example/b?c=1&d=2"),
        ("<@U0BOT> <https://a.example|the page>", "the page (https://a.example)"),
        ("<@U0BOT> <https://a.example|a.example>", "https://a.example"),
        ("<@U0BOT> <mailto:a@b.example|a@b.example>", "mailto:a@b.example"),
        ("<@U0BOT> 1 &lt; 2 &amp;&amp; 3 &gt; 2", "1 < 2 && 3 > 2"),
        ("<@U0BOT> &amp;lt;b&amp;gt;", "&lt;b&gt;"),
        ("<@U0BOT>", ""),
        ("<@U0BOT> a\x00b \ud800 c", "ab \ufffd c"),
    ],
)
def test_a_text_is_shown_as_people_see_it(written: str, shown: str) -> None:
    assert message(text=written).text == shown


def test_files_are_named_with_type_and_size() -> None:
    files = [
        {"name": "a.pdf", "mimetype": "application/pdf", "size": 12},
        {"title": "b"},
        {"name": 5, "size": -1},
        "junk",
    ]
    found = message(subtype="file_share", files=files)
    assert [(file.name, file.media_type, file.size) for file in found.attachments] == [
        ("a.pdf", "application/pdf", 12),
        ("b", "application/octet-stream", 0),
        ("file", "application/octet-stream", 0),
    ]


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
odd_text = st.text(st.characters() | st.sampled_from("<>@|!#&;\x00\ud800"), max_size=60)
fields = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["message", "app_mention"]) | any_json,
        "channel": st.sampled_from(["C1", "D1"]) | any_json,
        "ts": st.just(TS) | any_json,
        "thread_ts": st.just(ROOT) | any_json,
        "user": st.sampled_from(["UBEA", "UNEW"]) | any_json,
        "text": odd_text.map(lambda text: f"<@U0BOT> {text}") | any_json,
        "files": any_json,
        "blocks": any_json,
        "subtype": st.sampled_from([None, "file_share"]) | any_json,
        "user_profile": any_json,
        "user_team": any_json,
        "client_msg_id": any_json,
    },
)


@given(any_json)
def test_any_json_has_a_meaning(payload: Any) -> None:
    parse("slack", payload, BOT, Known())


@given(fields)
def test_any_event_has_a_meaning_that_a_ledger_can_hold(event: dict[str, Any]) -> None:
    found = parse("slack", {"type": "event_callback", "event": event}, BOT, Known())
    if isinstance(found, Message):
        for text in (found.text, found.sender.name, found.outside_id, found.alternate_id or ""):
            text.encode()
            assert "\x00" not in text
        json.dumps(dict(found.target))


# --- what authors do afterwards ------------------------------------------------------------------


def changed(before: str, now: str, *, after: float = 5.0, **inner: Any) -> Parsed:
    """A message_changed, so many seconds after the message was written."""
    ts = inner.get("ts", TS)
    old = {"type": "message", "user": "UBEA", "ts": ts, "text": before, "team": "T1"}
    new = {**old, "text": now, "edited": {"user": "UBEA", "ts": f"{float(TS) + after:.6f}"}}
    event = body(
        subtype="message_changed",
        hidden=True,
        user=None,
        text=None,
        team=None,
        ts="1700000099.000100",
        message={name: value for name, value in (new | inner).items() if value is not None},
        previous_message=old,
    )
    return parse("slack", event, BOT, Known(), lambda _channel: ROOT)


def edited(found: Parsed) -> Edited:
    assert isinstance(found, Edited)
    return found


def test_a_change_is_the_message_as_it_reads_now() -> None:
    found = edited(changed("<@U0BOT> helo", "<@U0BOT> hello"))
    assert found.message == replace(message(), sent_at=float(f"{float(TS) + 5:.6f}"))
    assert found.outside_id == f"T1:C1:{TS}"


@pytest.mark.parametrize(
    ("before", "now", "after", "begins"),
    [
        ("hello", "<@U0BOT> hello", 90_000.0, True),  # the mention was added
        ("<@U0BOT> helo", "<@U0BOT> hello", 90_000.0, False),  # long ago: it was heard, or never
        ("<@U0BOT> helo", "<@U0BOT> hello", 5.0, True),  # it may have overtaken the message
    ],
)
def test_what_a_change_may_begin(before: str, now: str, after: float, begins: bool) -> None:
    assert edited(changed(before, now, after=after)).begins is begins


@pytest.mark.parametrize(
    ("before", "now", "inner"),
    [
        ("hello", "hallo", {}),  # never for us
        ("<@U0BOT> hello", "<@U0BOT> hello", {}),  # a link unfolded
        ("<@U0BOT> hello", "<@U0BOT> hallo", {"edited": None}),
        ("<@U0BOT> hello", "<@U0BOT> hallo", {"user": "U0BOT"}),
        ("<@U0BOT> hello", "<@U0BOT> hallo", {"bot_id": "B2"}),
        ("<@U0BOT> hello", "<@U0BOT> hallo", {"user": "UGIL"}),
    ],
)
def test_changes_that_are_none_of_ours_are_skipped(
    before: str, now: str, inner: dict[str, Any]
) -> None:
    assert isinstance(changed(before, now, **inner), Skipped)


def test_a_change_to_stop_is_no_stop() -> None:
    assert edited(changed("what", "stop", thread_ts=ROOT)).message.text == "stop"


def test_a_mention_that_comes_again_because_it_was_changed_is_a_change() -> None:
    found = read(type="app_mention", edited={"user": "UBEA", "ts": "1700000005.000000"})
    assert edited(found).begins


def deleted(ts: object = TS, **before: Any) -> Parsed:
    old = {"type": "message", "user": "UBEA", "ts": ts, "text": "<@U0BOT> hello", "team": "T1"}
    event = body(
        subtype="message_deleted",
        hidden=True,
        user=None,
        text=None,
        team=None,
        ts="1700000099.000100",
        deleted_ts=ts,
        previous_message=old | before,
    )
    return parse("slack", event, BOT, Known())


def test_a_deletion_names_what_it_takes_back() -> None:
    key = f"T1:C1:{TS}"
    assert deleted() == Deleted("slack", key, {"channel": "C1", "thread_ts": TS})
    reply = deleted(text="and?", thread_ts=ROOT)
    assert reply == Deleted("slack", key, {"channel": "C1", "thread_ts": ROOT})
    stone = changed("<@U0BOT> hello", "", subtype="tombstone", user="USLACKBOT", hidden=True)
    assert stone == deleted()


@pytest.mark.parametrize(
    "before", [{"text": "lunch?"}, {"user": "U0BOT"}, {"bot_id": "B2"}, {"ts": None}]
)
def test_deletions_that_are_none_of_ours_are_skipped(before: dict[str, Any]) -> None:
    ts = before.pop("ts", TS)
    assert isinstance(deleted(ts, **before), Skipped)
