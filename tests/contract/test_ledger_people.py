"""The port `Ledger`, what people ask and wish: traces, dead letters, erasing, keeping, copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.clock import ManualClock
from daemon.errors import LedgerError
from daemon.model import ConversationId, EffectKind, Ignored, Outcome, Trust, TurnState, Unreadable
from daemon.ports import Ending
from tests.ledgers import IMPLEMENTATIONS, LIMITS, PROCESS, Stage, post, workspace

T1, DAY = ConversationId("t1"), 86_400.0


def happened(story: Mapping[str, Any] | None) -> list[str]:
    assert story is not None
    return [moment["what"] for moment in story["timeline"]]


async def retain(stage: Stage, *, days: float) -> list[str]:
    """Retention that lets go of all that is older than so many days; ids of workspaces."""
    before = stage.clock.now() - days * DAY
    gone = await stage.ledger.retain(
        records_before=before, workspaces_before=before, keys_before=before
    )
    return [workspace.id for workspace in gone]


# --- trace ----------------------------------------------------------------------------------------


async def test_the_story_of_a_message_is_found_by_any_id_of_it(stage: Stage) -> None:
    heard = await stage.hear(
        stage.message(outside_id="T1:C1:1700.1", alternate_id="alt", names=("<m@x>",))
    )
    turn = await stage.claim()
    await stage.ledger.begin_attempt(turn.id, 1, PROCESS)
    answer = post("answer", names=("<ours@x>",))
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, "hi", "", (answer,)))
    await stage.ledger.mark_sending(answer.id)
    await stage.ledger.mark_sent(answer.id, "1700.2")
    stories = [
        await stage.ledger.trace(str(any_id))
        for any_id in (
            heard.message, "T1:C1:1700.1", "C1:1700.1", "1700.1", "alt", "<m@x>", "m@x", turn.id,
            answer.id, "1700.2", "ours@x", " alt ",
        )
    ]  # fmt: skip
    for story in stories:
        assert story is not None
        assert [row["id"] for row in rows(story, "messages")] == [heard.message]
        assert [row["id"] for row in rows(story, "turns")] == [turn.id]
        assert [row["id"] for row in rows(story, "effects")] == [answer.id]
    assert happened(stories[0]) == [
        "sent by its author", "registered", "claimed", "attempt", "done", "recorded", "sending",
        "sent",
    ]  # fmt: skip
    for unknown in ("nothing", "", " ", "\ud800"):
        assert await stage.ledger.trace(unknown) is None


@pytest.mark.parametrize("asked", ["<news@x>", "news@x", "<news@x> 0123", "INBOX:7:9"])
async def test_why_something_was_ignored_is_found_by_its_message_id(
    stage: Stage, asked: str
) -> None:
    await stage.ledger.register(Ignored("chat", "INBOX:7:9", "R3: a mailing list", "<news@x> 0123"))
    await stage.ledger.register(Ignored("chat", "INBOX:7:10", "R3", "<other-news@x> 0123"))
    story = await stage.ledger.trace(asked)
    assert story is not None
    (found,) = rows(story, "messages")
    assert (found["outside_id"], found["reason"]) == ("INBOX:7:9", "R3: a mailing list")


def rows(story: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = story[part]
    return found


async def test_a_trace_tells_of_back_off_death_and_failed_delivery_with_reasons(
    stage: Stage,
) -> None:
    turn = await stage.running()
    await stage.reopen()
    await stage.ledger.interrupted()
    await stage.ledger.requeue(turn.id, not_before=0, resend=False, reason="the model was away")
    await stage.claim()
    answer = post("answer")
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, "hi", "", (answer,)))
    await stage.ledger.mark_pending(answer.id, 0, "429")
    await stage.ledger.mark_dead(answer.id, "channel_not_found")
    story = await stage.ledger.trace(turn.id)
    assert story is not None
    told = {(m["what"], m["detail"]) for m in rows(story, "timeline")}
    assert {
        ("put back", "the model was away"),
        ("put back", "429"),
        ("dead", "channel_not_found"),
        ("interrupted", None),
    } <= told


async def test_no_text_that_somebody_wrote_is_in_a_trace(stage: Stage) -> None:
    turn, _ = await stage.done("the secret plan", answer="the secret answer")
    assert "secret" not in str(await stage.ledger.trace(turn.id))
    assert "secret" not in str(await stage.ledger.conversation(T1))
    assert "secret" not in str(await stage.ledger.conversations(5))


async def test_conversations_are_listed_latest_first(stage: Stage) -> None:
    await stage.sent(conversation="old")
    await stage.clock.advance(10)
    await stage.running(conversation="busy")
    await stage.clock.advance(10)
    await stage.hear(stage.message(conversation="new", trust=Trust.PUBLIC))
    listed = await stage.ledger.conversations(2)
    assert [(c["id"], c["state"], c["waiting"]) for c in listed] == [
        ("new", "idle", 1),
        ("busy", "running", 0),
    ]
    shown = await stage.ledger.conversation(ConversationId("old"))
    assert shown is not None
    assert (shown["trust"], shown["opened_by"]) == ("member", "test:ada")
    assert await stage.ledger.conversation(ConversationId("none")) is None


# --- dead letters ---------------------------------------------------------------------------------


async def a_dead_turn(stage: Stage, conversation: str = "t1") -> str:
    turn = await stage.running("poison", conversation)
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DEAD, "", "three failures"))
    return turn.id


async def test_dead_letters_of_all_kinds_are_listed_with_their_reasons(stage: Stage) -> None:
    turn = await a_dead_turn(stage)
    await stage.clock.advance(1)
    await stage.ledger.register(Unreadable("mail", "7", "no headers", b"raw"))
    await stage.clock.advance(1)
    await stage.ledger.add_effects((effect := post("1"),))
    await stage.ledger.mark_dead(effect.id, "gone")
    letters = await stage.ledger.dead()
    assert [(letter["kind"], letter["reason"]) for letter in letters] == [
        ("turn", "three failures"),
        ("message", "no headers"),
        ("effect", "gone"),
    ]
    assert letters[0]["id"] == turn
    assert (await stage.ledger.counts()).dead_letters == 3


async def test_a_dead_turn_is_tried_again_as_a_new_one(stage: Stage) -> None:
    turn = await a_dead_turn(stage)
    assert await stage.ledger.dead_retry(turn) == T1
    assert await stage.ledger.dead_retry(turn) is None, "once"
    assert await stage.ledger.dead() == ()
    again = await stage.claim()
    assert again.id != turn
    assert [stored.message.text for stored in again.messages] == ["poison"]
    assert (again.attempt, again.failures) == (0, 0)
    story = await stage.ledger.trace(again.messages[0].id)
    assert {"dead", "retried by a person"} <= set(happened(story)), "the first try is told too"


async def test_a_dead_turn_of_a_busy_conversation_waits_for_the_next(stage: Stage) -> None:
    dead = await a_dead_turn(stage)
    running = await stage.running("now")
    assert await stage.ledger.dead_retry(dead) == T1
    await stage.ledger.end_turn(running.id, Ending(TurnState.DONE))
    again = await stage.claim()
    assert [stored.message.text for stored in again.messages] == ["poison"]
    story = await stage.ledger.trace(again.messages[0].id)
    assert story is not None
    assert [row["id"] for row in rows(story, "turns")] == [dead, again.id]


async def test_a_dead_or_unclear_effect_is_sent_again_on_a_persons_word(stage: Stage) -> None:
    await stage.ledger.add_effects((dead := post("1", "t1"), unclear := post("2", "t2")))
    await stage.ledger.mark_dead(dead.id, "no")
    await stage.ledger.mark_unclear(unclear.id, "?")
    assert await stage.ledger.dead_retry(dead.id) == "t1"
    assert await stage.ledger.dead_retry(unclear.id) == "t2"
    assert len(await stage.due()) == 2


async def test_what_is_discarded_leaves_the_list_and_stays_in_the_trace(stage: Stage) -> None:
    turn = await a_dead_turn(stage)
    assert await stage.ledger.dead_discard(turn)
    assert not await stage.ledger.dead_discard(turn)
    assert await stage.ledger.dead_retry(turn) is None
    assert await stage.ledger.dead() == ()
    assert (await stage.ledger.counts()).dead_letters == 0
    assert "discarded by a person" in happened(await stage.ledger.trace(turn))


async def test_what_is_no_dead_letter_cannot_be_retried_or_discarded(stage: Stage) -> None:
    turn = await stage.sent()
    for any_id in (turn.id, "nothing", ""):
        assert await stage.ledger.dead_retry(any_id) is None
        assert not await stage.ledger.dead_discard(any_id)


# --- erase ----------------------------------------------------------------------------------------


async def test_an_erased_conversation_leaves_only_its_keys(stage: Stage) -> None:
    await stage.hear(stage.message("private", outside_id="C1:1", raw="raw/chat/1"))
    turn = await stage.claim()
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, "answer", "", (post("a"),)))
    await stage.hear(stage.message("waits"))
    (gone,) = await stage.ledger.erase("t1")
    assert gone == workspace(stage.root, "ws-t1")
    assert await stage.ledger.conversation(T1) is None
    assert await stage.ledger.turn(turn.id) is None
    assert await stage.due() == []
    assert await stage.ledger.all_ready() == ()
    await stage.hear(stage.message(outside_id="C1:1"), Outcome.DUPLICATE)
    assert await stage.ledger.erase("t1") == ()


PLANTED = (
    b"pl4nted-message",
    b"pl4nted-answer",
    b"pl4nted-effect",
    b"pl4nted-subject",
    b"Eve-Pl4nted",
    b"test:pl4nted-eve",
)


def still_there(root: Path) -> list[tuple[str, bytes]]:
    """The planted words in any file below a directory, byte by byte."""
    return [
        (str(path.relative_to(root)), word)
        for path in sorted(root.rglob("*"))
        if path.is_file()
        for word in PLANTED
        if word in path.read_bytes()
    ]


@pytest.mark.parametrize("who", ["t1", "test:pl4nted-eve"])
async def test_no_byte_of_what_is_erased_stays_on_disk(stage: Stage, who: str) -> None:
    """Not in free pages, not in the write-ahead log: a deletion that leaves them is none."""
    for number in range(5):
        await stage.sent("somebody else's", f"before-{number}")
    long = "pl4nted-message " * 2000  # it needs pages of its own
    for text in ("pl4nted-message", long):
        message = stage.message(text, sender="pl4nted-eve", raw=f"raw/{len(text)}")
        raw(stage, str(len(text)))
        (stage.root / f"raw/{len(text)}").write_bytes(b"pl4nted-message")
        sender = replace(message.sender, name="Eve-Pl4nted")
        await stage.hear(replace(message, subject="pl4nted-subject", sender=sender))
        turn = await stage.claim()
        await stage.ledger.begin_attempt(turn.id, 1, PROCESS)
        await stage.ledger.requeue(turn.id, not_before=0, resend=False, reason="away")
        await stage.claim()
        effect = post(f"{turn.id}/answer", "t1", "pl4nted-effect")
        ending = Ending(TurnState.DONE, "pl4nted-answer", "", (effect,))
        assert await stage.ledger.end_turn(turn.id, ending)
        await stage.ledger.mark_sending(effect.id)
        await stage.ledger.mark_sent(effect.id, "ref")
    await stage.hear(stage.message("pl4nted-message, not yet answered", sender="pl4nted-eve"))
    for number in range(5):
        await stage.sent("somebody else's", f"after-{number}")
    assert {word for _, word in still_there(stage.root)} == set(PLANTED)
    await stage.ledger.erase(who)
    assert still_there(stage.root) == []
    assert len(await stage.ledger.conversations(20)) == 10, "and all that is others' stays"


@pytest.mark.parametrize("who", ["t1", "test:eve"])
async def test_what_operators_were_told_of_something_erased_goes_too(
    stage: Stage, who: str
) -> None:
    """It names the subject, and to whom it went."""
    await stage.hear(stage.message("from eve", sender="eve"))
    await stage.hear(stage.message("from ada", sender="ada"))
    turn, answer = await stage.claim(), post("answer")
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, "hi", "", (answer,)))
    about = post("about", "notices", f"{answer.id} may have arrived", kind=EffectKind.NOTICE)
    given_up = post("given up", "notices", f"{turn.id} was given up on", kind=EffectKind.NOTICE)
    other = post("other", "notices", "eff-0 may have arrived", kind=EffectKind.NOTICE)
    await stage.ledger.add_effects((about, given_up, other))
    await stage.ledger.mark_sending(about.id)
    await stage.ledger.mark_sent(about.id, "ref")
    await stage.ledger.erase(who)
    assert await stage.ledger.trace(about.id) is None
    assert await stage.ledger.trace(given_up.id) is None
    assert await stage.ledger.trace(other.id) is not None


async def test_an_erased_person_leaves_the_others_of_a_conversation(stage: Stage) -> None:
    await stage.hear(stage.message("alone", "mine", sender="eve"))
    await stage.hear(stage.message("together", "ours", sender="ada"))
    await stage.hear(stage.message("from eve", "ours", sender="eve"))
    await stage.claim("mine")
    shared = await stage.claim("ours")
    gone = await stage.ledger.erase("test:eve")
    assert sorted(workspace.id for workspace in gone) == ["ws-mine", "ws-ours"]
    assert await stage.ledger.conversation(ConversationId("mine")) is None
    assert await stage.ledger.conversation(ConversationId("ours")) is not None
    assert await stage.ledger.turn(shared.id) is None, "its answer would be one to Eve too"
    again = await stage.ledger.claim(shared.conversation, workspace(stage.root, "new"), LIMITS)
    assert again is not None
    assert [stored.message.text for stored in again.messages] == ["together"]


async def test_the_end_of_an_erased_turn_writes_nothing(stage: Stage) -> None:
    turn = await stage.running()
    await stage.ledger.erase("t1")
    assert not await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, "x", "", (post("a"),)))
    await stage.ledger.requeue(turn.id, not_before=0, resend=False, effects=(post("b"),))
    assert await stage.due() == []


def raw(stage: Stage, name: str) -> Path:
    """A stored raw form, as a connector writes it before the message is registered."""
    path = stage.root / "raw" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"Subject: x")
    return path


async def test_the_raw_form_of_what_is_erased_goes_too(stage: Stage) -> None:
    kept, gone = raw(stage, "kept"), raw(stage, "gone")
    await stage.hear(stage.message(conversation="t1", raw="raw/gone"))
    await stage.hear(stage.message(conversation="t2", raw="raw/kept"))
    await stage.ledger.erase("t1")
    assert (gone.exists(), kept.exists()) == (False, True)


async def test_the_raw_form_of_what_is_not_kept_goes_with_the_next_upkeep(stage: Stage) -> None:
    await stage.hear(stage.message())
    kept, ignored, left_out, twin = (raw(stage, name) for name in ("kept", "no", "out", "twin"))
    message = stage.message(outside_id="C1:1", raw="raw/kept")
    await stage.hear(message)
    await stage.hear(message, Outcome.DUPLICATE)
    await stage.hear(replace(message, raw="raw/twin"), Outcome.DUPLICATE)
    unaddressed = stage.message(conversation="x", addressed=False, raw="raw/no")
    await stage.hear(unaddressed, Outcome.IGNORED)
    await stage.hear(stage.message(trust=Trust.PUBLIC, raw="raw/out"), Outcome.LEFT_OUT)
    await stage.hear(stage.message(raw="../outside"))
    outside = stage.root.parent / "outside"
    outside.write_bytes(b"not ours")
    await stage.ledger.erase("nobody")
    await retain(stage, days=30)
    assert [path.exists() for path in (kept, ignored, left_out, twin)] == [True] + [False] * 3
    await stage.ledger.erase("t1")
    assert not kept.exists()
    assert outside.exists()


# --- retention ------------------------------------------------------------------------------------


async def test_what_is_old_goes_and_what_is_not_over_stays(stage: Stage) -> None:
    form = raw(stage, "1")
    await stage.hear(stage.message(conversation="old", outside_id="C1:1", raw="raw/1"))
    old = await stage.claim("old")
    await stage.ledger.end_turn(old.id, Ending(TurnState.DONE, "hi"))
    unsent, effect = await stage.done(conversation="unsent")
    running = await stage.running(conversation="running")
    await stage.hear(stage.message(conversation="waiting"))
    await stage.ledger.register(Unreadable("mail", "1", "odd", b"raw"))
    await stage.clock.advance(100 * DAY)
    fresh = await stage.sent(conversation="fresh")
    assert sorted(await retain(stage, days=90)) == ["ws-old", "ws-unsent"]
    ledger = stage.ledger
    assert await ledger.turn(old.id) is None
    assert not form.exists()
    for turn in (unsent, running, fresh):
        assert await ledger.turn(turn.id) is not None
    assert [e.id for e in await ledger.due_effects("chat", stage.clock.now(), 9)] == [effect.id]
    assert [ready.id for ready in await ledger.all_ready()] == ["waiting"]
    assert {c["id"] for c in await ledger.conversations(10)} == {
        "unsent", "running", "waiting", "fresh",
    }  # fmt: skip
    assert await retain(stage, days=90) == []


async def test_keys_outlive_the_records(stage: Stage) -> None:
    await stage.hear(stage.message(outside_id="C1:1"))
    turn = await stage.claim()
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, "hi"))
    await stage.clock.advance(20 * DAY)
    now = stage.clock.now()
    await stage.ledger.retain(
        records_before=now - 10 * DAY, workspaces_before=now, keys_before=now - 30 * DAY
    )
    assert await stage.ledger.turn(turn.id) is None
    await stage.hear(stage.message(outside_id="C1:1"), Outcome.DUPLICATE)
    await stage.clock.advance(20 * DAY)
    await retain(stage, days=30)
    await stage.hear(stage.message(outside_id="C1:1"))


async def test_ids_keep_growing_when_retention_has_emptied_the_ledger(stage: Stage) -> None:
    for number in range(3):
        await stage.sent(f"before {number}", f"t{number}")
    await stage.clock.advance(200 * DAY)
    await retain(stage, days=90)
    assert await stage.ledger.conversations(10) == ()
    await stage.reopen()
    for number in range(5):
        await stage.hear(stage.message(f"after {number}"))
    turn = await stage.claim()
    said = [stored.message.text for stored in turn.messages]
    assert said == [f"after {number}" for number in range(5)]


async def test_a_conversation_that_lost_its_workspace_goes_on_with_another(stage: Stage) -> None:
    await stage.sent()
    await stage.clock.advance(40 * DAY)
    before = stage.clock.now() - 30 * DAY
    await stage.ledger.retain(records_before=0, workspaces_before=before, keys_before=0)
    await stage.hear(stage.message("again"))
    ready = await stage.ledger.ready(T1)
    assert ready is not None
    assert not ready.settled
    turn = await stage.ledger.claim(T1, workspace(stage.root, "ws-new"), LIMITS)
    assert turn is not None
    assert turn.workspace.id == "ws-new"
    assert not turn.fresh
    assert await stage.ledger.said(T1, turn.id) == ("Ada (test:ada, member): hello", "You: hi")


async def test_it_tells_which_workspaces_are_still_needed(stage: Stage) -> None:
    await stage.sent(conversation="idle")
    await stage.running(conversation="busy")
    await stage.sent(conversation="erased")
    assert await stage.ledger.adopted() == {"ws-idle", "ws-busy", "ws-erased"}
    await stage.ledger.erase("erased")
    assert await stage.ledger.adopted() == {"ws-idle", "ws-busy"}


# --- backup ---------------------------------------------------------------------------------------


async def test_a_backup_opens_elsewhere_and_runs(stage: Stage, tmp_path: Path) -> None:
    turn = await stage.running("hello")
    await stage.ledger.add_effects((post("1", "t2", "unsent"),))
    other = tmp_path / "elsewhere"
    other.mkdir()
    await stage.ledger.backup(other / "ledger.db")
    with pytest.raises(LedgerError, match="exists already"):
        await stage.ledger.backup(other / "ledger.db")
    await stage.hear(stage.message("after it"))
    restored = await stage.implementation.open(other, ManualClock())
    try:
        assert restored.epoch > stage.ledger.epoch
        (found,) = await restored.interrupted()
        assert found.id == turn.id
        assert found.workspace.root == other / "conversations" / "ws-t1"
        effects = await restored.due_effects("chat", stage.clock.now(), 9)
        assert [effect.body["text"] for effect in effects] == ["unsent"]
        counts = await restored.counts()
        assert counts.waiting == 0
        await restored.register(stage.message("goes on"))
    finally:
        await restored.close()


def test_every_implementation_is_named_once() -> None:
    names = [implementation.name for implementation in IMPLEMENTATIONS]
    assert len(set(names)) == len(names) > 0
