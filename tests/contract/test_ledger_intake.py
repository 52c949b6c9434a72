"""The port `Ledger`, intake: what is heard is kept once, and who is heard where."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from daemon.model import (
    Attachment,
    ConversationId,
    Cursor,
    Identity,
    Ignored,
    MessageId,
    Outcome,
    Sender,
    Stop,
    Trust,
    Unreadable,
)
from tests.ledgers import Stage, post

T1 = ConversationId("t1")


async def test_a_message_comes_back_as_it_was_heard(stage: Stage) -> None:
    message = replace(
        stage.message("Grüße 👋\n\x00", alternate_id="alt-1", names=("<a@x>", "<b@x>")),
        subject="Re: hello",
        attachments=(Attachment("a.pdf", "application/pdf", 12),),
        raw="raw/mail/1",
    )
    registered = await stage.hear(message)
    assert registered.message is not None
    await stage.reopen()
    stored = await stage.ledger.message(registered.message)
    assert stored is not None
    assert stored.message == message
    assert stored.registered_at == stage.clock.now()
    assert await stage.ledger.message(MessageId("msg-none")) is None


async def test_the_same_outside_id_is_a_duplicate_also_after_a_restart(stage: Stage) -> None:
    first = await stage.hear(stage.message(outside_id="C1:1"))
    again = await stage.hear(stage.message("other", outside_id="C1:1"), Outcome.DUPLICATE)
    assert (again.message, again.conversation) == (first.message, first.conversation)
    await stage.reopen()
    await stage.hear(stage.message(outside_id="C1:1"), Outcome.DUPLICATE)
    ready = await stage.ledger.ready(T1)
    assert ready is not None
    assert ready.waiting == 1


async def test_the_same_alternate_id_is_a_duplicate(stage: Stage) -> None:
    await stage.hear(stage.message(alternate_id="<id>"))
    await stage.hear(stage.message(alternate_id="<id>"), Outcome.DUPLICATE)


async def test_keys_of_one_connector_are_not_those_of_another(stage: Stage) -> None:
    await stage.hear(stage.message(outside_id="1", connector="chat"))
    await stage.hear(stage.message(outside_id="1", connector="mail"))


async def test_of_many_at_once_with_one_key_one_is_new(stage: Stage) -> None:
    copies = [stage.message(outside_id="C1:1") for _ in range(50)]
    outcomes = [r.outcome for r in await asyncio.gather(*map(stage.ledger.register, copies))]
    assert outcomes.count(Outcome.NEW) == 1
    assert outcomes.count(Outcome.DUPLICATE) == 49


async def test_a_mention_makes_an_ignored_message_one_to_answer(stage: Stage) -> None:
    heard = stage.message(outside_id="1", alternate_id="ts", addressed=False)
    await stage.hear(heard, Outcome.IGNORED)
    mention = stage.message("@bot hello", outside_id="2", alternate_id="ts")
    merged = await stage.hear(mention, Outcome.MERGED)
    assert merged.conversation == T1
    turn = await stage.claim()
    assert [stored.message.text for stored in turn.messages] == ["@bot hello"]


async def test_what_was_ignored_by_reason_becomes_a_message_too(stage: Stage) -> None:
    await stage.ledger.register(Ignored("chat", "1", "no mention", alternate_id="ts"))
    await stage.hear(stage.message(outside_id="2", alternate_id="ts"), Outcome.MERGED)


async def test_a_mention_of_a_message_that_is_claimed_makes_no_second_turn(stage: Stage) -> None:
    await stage.sent()
    unaddressed = stage.message(outside_id="1", alternate_id="ts", addressed=False)
    await stage.hear(unaddressed)
    await stage.claim()
    await stage.hear(replace(unaddressed, outside_id="2", addressed=True), Outcome.DUPLICATE)
    assert await stage.ledger.all_ready() == ()


async def test_an_unaddressed_message_counts_only_in_a_conversation_of_ours(stage: Stage) -> None:
    await stage.hear(stage.message(addressed=False), Outcome.IGNORED)
    await stage.hear(stage.message())
    await stage.hear(stage.message(addressed=False))


async def test_the_text_of_what_no_mention_made_ours_is_let_go_of_in_minutes(stage: Stage) -> None:
    registered = await stage.hear(stage.message("secret", addressed=False), Outcome.IGNORED)
    assert registered.message is not None
    await stage.clock.advance(601)
    await stage.hear(stage.message("other", conversation="t2", addressed=False), Outcome.IGNORED)
    stored = await stage.ledger.message(registered.message)
    assert stored is not None
    assert (stored.message.text, stored.message.sender.id) == ("", "")


async def test_upkeep_lets_go_of_unaddressed_texts_too(stage: Stage) -> None:
    registered = await stage.hear(stage.message("secret", addressed=False), Outcome.IGNORED)
    assert registered.message is not None
    await stage.clock.advance(601)
    await stage.ledger.retain(records_before=0, workspaces_before=0, keys_before=0)
    stored = await stage.ledger.message(registered.message)
    assert stored is not None
    assert stored.message.text == ""


async def test_what_overtook_its_mention_goes_behind_it_also_before_its_sender_is_known(
    stage: Stage,
) -> None:
    early = replace(stage.message("follow-up", addressed=False, trust=None), sent_at=20.0)
    await stage.hear(early, Outcome.IGNORED)
    opening = replace(stage.message("mention"), sent_at=10.0)
    registered = await stage.hear(opening)
    assert [taken.outcome for taken in registered.taken_up] == [Outcome.UNIDENTIFIED]
    assert await stage.ledger.unidentified(early.connector) == (early.sender.id,)
    await stage.hear(early, Outcome.DUPLICATE)


# --- trust ----------------------------------------------------------------------------------------


async def test_a_lower_label_is_left_out_and_its_author_told_once(stage: Stage) -> None:
    await stage.hear(stage.message(trust=Trust.MEMBER))
    guest = stage.message("let me in", sender="eve", trust=Trust.PUBLIC)
    first = await stage.hear(guest, Outcome.LEFT_OUT)
    again = await stage.hear(
        stage.message(sender="eve", trust=Trust.PUBLIC, addressed=False), Outcome.LEFT_OUT
    )
    other = await stage.hear(stage.message(sender="mal", trust=Trust.PUBLIC), Outcome.LEFT_OUT)
    assert (first.tell, again.tell, other.tell) == (True, False, True)
    assert first.message is not None
    stored = await stage.ledger.message(first.message)
    assert stored is not None
    assert stored.message.text == ""
    assert stored.message.target == {"thread": "t1"}, "where the author is told"


async def test_a_higher_label_speaks_at_that_of_the_conversation(stage: Stage) -> None:
    await stage.hear(stage.message(trust=Trust.PUBLIC))
    await stage.hear(stage.message(sender="boss", trust=Trust.OPERATOR))
    turn = await stage.claim()
    assert turn.trust is Trust.PUBLIC
    assert len(turn.messages) == 2


async def test_an_unknown_sender_waits_and_goes_on_when_known(stage: Stage) -> None:
    await stage.hear(stage.message(trust=None), Outcome.UNIDENTIFIED)
    assert await stage.ledger.ready(T1) is None
    assert await stage.ledger.unidentified("chat") == ("test:ada",)
    assert await stage.ledger.unidentified("mail") == ()
    known = Identity("test:ada", "Ada L.", Trust.MEMBER)
    (released,) = await stage.ledger.identify("chat", known)
    assert (released.outcome, released.conversation) == (Outcome.NEW, T1)
    turn = await stage.claim()
    assert turn.messages[0].message.sender == Sender("test:ada", "Ada L.", Trust.MEMBER)
    assert await stage.ledger.identify("chat", known) == ()


async def test_what_follows_an_unknown_sender_keeps_its_place(stage: Stage) -> None:
    await stage.hear(stage.message("first", sender="new", trust=None), Outcome.UNIDENTIFIED)
    await stage.hear(stage.message("second"), Outcome.UNIDENTIFIED)
    await stage.hear(stage.message("third", addressed=False), Outcome.UNIDENTIFIED)
    released = await stage.ledger.identify("chat", Identity("test:new", "New", Trust.MEMBER))
    assert [r.outcome for r in released] == [Outcome.NEW] * 3
    turn = await stage.claim()
    assert [stored.message.text for stored in turn.messages] == ["first", "second", "third"]


async def test_a_refused_sender_leaves_no_conversation_behind(stage: Stage) -> None:
    await stage.hear(stage.message(sender="guest", trust=None), Outcome.UNIDENTIFIED)
    refused = Identity("test:guest", "Guest", Trust.PUBLIC, refused="guests are not answered")
    (released,) = await stage.ledger.identify("chat", refused)
    assert released.outcome is Outcome.IGNORED
    assert await stage.ledger.conversations(10) == ()
    await stage.hear(stage.message(addressed=False), Outcome.IGNORED)


async def test_a_guest_found_out_in_a_members_thread_is_left_out(stage: Stage) -> None:
    await stage.hear(stage.message())
    await stage.hear(stage.message(sender="guest", trust=None), Outcome.UNIDENTIFIED)
    guest = Identity("test:guest", "Guest", Trust.PUBLIC)
    (released,) = await stage.ledger.identify("chat", guest)
    assert (released.outcome, released.tell) == (Outcome.LEFT_OUT, True)


# --- what is no message ---------------------------------------------------------------------------


async def test_what_cannot_be_read_is_a_dead_letter_with_its_raw_form(stage: Stage) -> None:
    item = Unreadable("mail", "7", "no headers", b"\x00\xffgarbage")
    assert (await stage.ledger.register(item)).outcome is Outcome.UNREADABLE
    assert (await stage.ledger.register(item)).outcome is Outcome.DUPLICATE
    (letter,) = await stage.ledger.dead()
    assert letter["kind"] == "message"
    assert letter["reason"] == "no headers"
    assert "garbage" in str(letter["raw"])


async def test_a_stop_is_heard_once_and_waits_for_no_turn(stage: Stage) -> None:
    stop = Stop("chat", "9", T1, Sender("test:ada", "Ada", Trust.MEMBER))
    first = await stage.ledger.register(stop)
    assert first.outcome is not Outcome.DUPLICATE
    assert first.conversation == T1
    assert (await stage.ledger.register(stop)).outcome is Outcome.DUPLICATE
    assert await stage.ledger.ready(T1) is None


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "😀" * 3000, ""])
async def test_hostile_text_is_registered_all_the_same(stage: Stage, text: str) -> None:
    await stage.hear(
        replace(
            stage.message(text, f"t{text}", sender=text, outside_id=f"id{text}", names=(text,)),
            subject=text,
            sent_at=math.nan,
        )
    )
    await stage.hear(stage.message(outside_id=f"id{text}"), Outcome.DUPLICATE)
    (ready,) = await stage.ledger.all_ready()
    turn = await stage.claim(ready.id)
    assert len(turn.messages) == 1


# --- cursors, names, look-ups ---------------------------------------------------------------------


async def test_the_cursor_moves_with_its_message_and_never_back(stage: Stage) -> None:
    ledger = stage.ledger
    assert await ledger.cursor("mail", "INBOX") is None
    await ledger.register(stage.message(), Cursor("mail", "INBOX", 1, 7))
    await ledger.register(stage.message(), Cursor("mail", "INBOX", 1, 5))
    assert await ledger.cursor("mail", "INBOX") == Cursor("mail", "INBOX", 1, 7)
    assert await ledger.cursor("mail", "Archive") is None


async def test_a_duplicate_moves_the_cursor_too(stage: Stage) -> None:
    message = stage.message()
    await stage.ledger.register(message, Cursor("mail", "INBOX", 1, 7))
    await stage.ledger.register(message, Cursor("mail", "INBOX", 1, 8))
    cursor = await stage.ledger.cursor("mail", "INBOX")
    assert cursor is not None
    assert cursor.uid == 8


async def test_a_new_uidvalidity_starts_the_cursor_again(stage: Stage) -> None:
    await stage.ledger.set_cursor(Cursor("mail", "INBOX", 1, 700))
    await stage.ledger.set_cursor(Cursor("mail", "INBOX", 2, 3))
    assert await stage.ledger.cursor("mail", "INBOX") == Cursor("mail", "INBOX", 2, 3)


async def test_a_conversation_is_found_by_any_name_it_bore(stage: Stage) -> None:
    await stage.hear(stage.message(names=("<root@x>",)))
    await stage.hear(stage.message(sender="bob", names=("<second@x>",)))
    await stage.ledger.add_effects((post("notice", names=("<ours@x>",)),))
    for name in ("<root@x>", "<second@x>", "<ours@x>"):
        found = await stage.ledger.find_conversation("chat", ("<unknown@x>", name))
        assert found is not None
        assert (found.id, found.trust) == (T1, Trust.MEMBER)
        assert found.participants == {"test:ada", "test:bob"}
    assert await stage.ledger.find_conversation("mail", ("<root@x>",)) is None
    assert await stage.ledger.find_conversation("chat", ()) is None


async def test_the_first_conversation_to_bear_a_name_keeps_it(stage: Stage) -> None:
    await stage.hear(stage.message(conversation="t1", names=("<id@x>",)))
    await stage.hear(stage.message(conversation="t2", names=("<id@x>",)))
    found = await stage.ledger.find_conversation("chat", ("<id@x>",))
    assert found is not None
    assert found.id == "t1"


async def test_it_tells_which_ids_are_known(stage: Stage) -> None:
    await stage.hear(stage.message(outside_id="1", alternate_id="a"))
    assert await stage.ledger.knows("chat", ("1", "2", "a")) == {"1", "a"}
    assert await stage.ledger.knows("mail", ("1",)) == frozenset()


async def test_active_conversations_are_a_connectors_own_the_latest_first(stage: Stage) -> None:
    await stage.hear(stage.message("old", "t1"))
    await stage.clock.advance(100)
    began = stage.clock.now()
    await stage.hear(stage.message("two", "t2"))
    await stage.hear(stage.message("chatter", "t3", addressed=False), Outcome.IGNORED)
    await stage.hear(stage.message("mail", "t4", connector="mail"))
    await stage.clock.advance(100)
    await stage.hear(stage.message("one again", "t1"))
    active = stage.ledger.active_conversations
    assert await active("chat", began - 1, 10) == ("t1", "t2")
    assert await active("chat", began - 1, 1) == ("t1",)
    assert await active("chat", stage.clock.now(), 10) == ()
