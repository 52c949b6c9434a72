"""What the demo's board makes of a trace, and how its two screens show it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from daemon.demo.board import Board, Row, Where, read_story, state
from daemon.demo.screen import LABEL, Lines, LiveBoard

KEY = "T1:C1:100.000001"


def message(**changes: Any) -> dict[str, Any]:
    found = {
        "id": "msg-1",
        "outside_id": KEY,
        "conversation": "slack:T1:C1:100.000001",
        "turn": "turn-1",
        "state": "claimed",
        "deliveries": 2,
        "registered_at": 100.02,
        "reason": "",
    }
    return found | changes


def turn(state: str, **changes: Any) -> dict[str, Any]:
    found = {"id": "turn-1", "state": state, "attempt": 1, "ended_at": 101.0, "reason": ""}
    return found | changes


def effect(state: str, **changes: Any) -> dict[str, Any]:
    found = {"turn": "turn-1", "kind": "post", "state": state, "ended_at": 101.5, "ref": "101.4"}
    return found | changes


def story(*messages: dict[str, Any], turns: Any = (), effects: Any = ()) -> dict[str, Any]:
    return {"messages": list(messages), "turns": list(turns), "effects": list(effects)}


STEPS = [
    ({"error": "nothing is known by this id"}, Where.SAID),
    (story(message(turn=None, state="unidentified")), Where.REGISTERED),
    (story(message(turn=None, state="waiting")), Where.REGISTERED),
    (story(message(), turns=[turn("queued")]), Where.AT_WORK),
    (story(message(), turns=[turn("running")]), Where.AT_WORK),
    (story(message(), turns=[turn("done")], effects=[effect("pending")]), Where.ANSWERED),
    (story(message(), turns=[turn("done")], effects=[effect("sending")]), Where.ANSWERED),
    (story(message(), turns=[turn("done")], effects=[effect("sent")]), Where.DELIVERED),
    (
        story(message(), turns=[turn("done")], effects=[effect("sent", kind="reply")]),
        Where.DELIVERED,
    ),
    (story(message(), turns=[turn("done")], effects=[effect("sent", kind="draft")]), Where.DRAFTED),
    (story(message(), turns=[turn("stopped")], effects=[effect("sent")]), Where.STOPPED),
    (story(message(), turns=[turn("done")], effects=[effect("dead")]), Where.FAILED),
    (story(message(), turns=[turn("done")], effects=[effect("unclear")]), Where.FAILED),
    (story(message(), turns=[turn("done")]), Where.FAILED),
    (story(message(), turns=[turn("lost")], effects=[effect("sent")]), Where.FAILED),
    (story(message(), turns=[turn("dead")], effects=[effect("sent")]), Where.FAILED),
    (story(message(turn=None, state="ignored", reason="own address")), Where.IGNORED),
    (story(message(turn=None, state="left_out", reason="of a lower trust")), Where.IGNORED),
    (story(message(turn=None, state="ignored", reason="stop")), Where.OBEYED),
    (story(message(turn=None, state="unreadable", reason="no JSON")), Where.FAILED),
]


@pytest.mark.parametrize(("told", "where"), STEPS)
def test_where_a_message_is_follows_from_its_trace(told: dict[str, Any], where: Where) -> None:
    assert read_story(told, KEY).where is where


def test_a_message_is_found_among_those_of_its_turn() -> None:
    other = message(id="msg-0", outside_id="T1:C1:99.000001", registered_at=99.5)
    both = story(other, message(), turns=[turn("running")])
    assert read_story(both, KEY).registered_at == 100.02


def test_effects_of_other_turns_do_not_count() -> None:
    told = story(
        message(), turns=[turn("done")], effects=[effect("sent"), effect("pending", turn="turn-0")]
    )
    standing = read_story(told, KEY)
    assert (standing.where, standing.refs) == (Where.DELIVERED, ("101.4",))


def test_what_was_unusual_is_told_with_it() -> None:
    told = story(
        message(deliveries=4),
        turns=[turn("done", attempt=2)],
        effects=[effect("sent"), effect("sent", kind="label", ref="Triage/order")],
    )
    standing = read_story(told, KEY)
    assert standing.detail == "attempt 2, came 4 times, Triage/order"
    assert standing.refs == ("101.4",)  # a label is no answer


def said(board: Board, text: str = "hello", wanted: Where = Where.DELIVERED) -> Row:
    return board.add(place="#general", who="bea", text=text, key=KEY, said_at=100.0, wanted=wanted)


def delivered(row: Row, ref: str = "101.4") -> None:
    told = story(message(), turns=[turn("done")], effects=[effect("sent", ref=ref)])
    row.standing, row.answer = read_story(told, KEY), "good morning"


def test_times_are_counted_from_when_it_was_said() -> None:
    row = said(Board())
    delivered(row)
    assert row.registered_ms == pytest.approx(20)
    assert row.seconds == pytest.approx(1.5)


def test_what_did_not_end_as_wanted_is_missing() -> None:
    board = Board()
    delivered(said(board))
    delivered(said(board, "a draft, please", wanted=Where.DRAFTED))
    said(board, "nobody hears this")
    first, second = board.missing()
    assert "message 2 (bea, #general: 'a draft, please') should be drafted, and is" in first
    assert second.endswith("should be delivered, and is said")


def test_an_answer_twice_and_an_answer_that_is_nowhere_are_found_outside() -> None:
    board = Board()
    delivered(said(board), "1.1")
    delivered(said(board), "2.2")
    assert board.unaccounted({"1.1": "one", "2.2": "two"}) == []
    (twice,) = board.unaccounted({"1.1": "one", "2.2": "two", "3.3": "two"})
    assert twice == "outside there is an answer of no message: 3.3 'two'"
    (nowhere,) = board.unaccounted({"1.1": "one"})
    assert nowhere == "message 2: its answer 2.2 is not there"


def test_a_message_while_the_daemon_was_dead_is_not_counted_as_slow() -> None:
    board = Board()
    delivered(said(board))
    late = said(board)
    delivered(late)
    late.said_at, late.unheard = 10.0, True
    told = board.summary(1)
    assert told.startswith("2 messages: 2 delivered. Nothing lost")
    assert "across 1 kill -9. Registered within 20 ms." in told


def test_a_tool_is_put_down_to_the_message_that_is_worked_on() -> None:
    board = Board()
    done, first, second = said(board), said(board), said(board)
    delivered(done)
    for waiting in (first, second):
        waiting.standing = read_story(story(message(), turns=[turn("running")]), KEY)
    assert board.working("slack:T1:C1:100.000001") is first
    delivered(first)
    delivered(second)
    assert board.working("slack:T1:C1:100.000001") is second
    assert board.working("slack:T1:C1:99.000001") is None


def test_plain_lines_tell_each_change_once() -> None:
    out = io.StringIO()
    board = Board()
    lines = Lines(Console(file=out, width=80), board, LABEL)
    row = said(board, "is [this] seen?")
    lines.refresh("")
    row.standing = read_story(story(message(), turns=[turn("running")]), KEY)
    row.tool = "Bash"
    lines.refresh("")
    lines.refresh("")
    delivered(row)
    lines.refresh("")
    shown = [line.partition(" s  ")[2] for line in out.getvalue().splitlines()]
    assert shown == [
        LABEL,
        " 1 bea, #general: is [this] seen?",
        " 1   registered after 20 ms",
        " 1   at work (tool Bash)",
        " 1   delivered (tool Bash) after 1.50 s: good morning",
    ]


def test_the_live_board_keeps_to_its_screen_and_ends_with_all_rows() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, height=16, force_terminal=True, color_system=None)
    board = Board()
    screen = LiveBoard(console, board, LABEL)
    for number in range(1, 31):
        delivered(said(board, f"text {number}"))
    screen.title("A scene")
    before = len(out.getvalue())
    screen.refresh("daemon: ready")
    frame = out.getvalue()[before:]
    assert "daemon: ready" in frame
    assert "A scene" in frame
    assert frame.count("delivered") == 16 - 6 - 4  # the screen, less what stands around the rows
    assert "\n30 " in frame
    before = len(out.getvalue())
    screen.end()
    assert out.getvalue()[before:].count("delivered") == 30


def test_a_state_is_shown_as_text_and_not_as_markup() -> None:
    row = said(Board())
    told = story(message(turn=None, state="ignored", reason="[red]odd[/]"))
    row.standing = read_story(told, KEY)
    shown = io.StringIO()
    Console(file=shown, width=80).print(state(row))
    assert shown.getvalue() == "not for us ([red]odd[/])\n"
