"""The port `Ledger`: what authors do to what they wrote, while it waits and after."""

from __future__ import annotations

from dataclasses import replace

from daemon.model import (
    Attachment,
    ConversationId,
    Deleted,
    Edited,
    Identity,
    Message,
    Outcome,
    Registered,
    Trust,
    TurnState,
)
from daemon.ports import Ending
from tests.ledgers import Stage

T1 = ConversationId("t1")


async def edit(stage: Stage, message: Message, text: str, *, begins: bool = True) -> Registered:
    return await stage.ledger.revise(Edited(replace(message, text=text), begins))


async def delete(stage: Stage, message: Message) -> Registered:
    return await stage.ledger.withdraw(
        Deleted(message.connector, message.outside_id, message.target)
    )


async def said(stage: Stage) -> list[str]:
    return [stored.message.text for stored in (await stage.claim()).messages]


async def whats(stage: Stage, message: Message) -> list[str]:
    story = await stage.ledger.trace(message.outside_id)
    assert story is not None
    timeline = story["timeline"]
    assert isinstance(timeline, list)
    return [moment["what"] for moment in timeline]


# --- changed -------------------------------------------------------------------------------------


async def test_what_waits_is_worked_on_as_it_reads_now(stage: Stage) -> None:
    message = stage.message("befroe")
    heard = await stage.hear(message)
    await stage.hear(stage.message("behind"))
    file = Attachment("a.pdf", "application/pdf", 12)
    changed = Edited(replace(message, text="after", attachments=(file,)), begins=False)
    revised = await stage.ledger.revise(changed)
    assert (revised.outcome, revised.message, revised.conversation) == (
        Outcome.REVISED,
        heard.message,
        T1,
    )
    await stage.reopen()
    turn = await stage.claim()
    assert [stored.message.text for stored in turn.messages] == ["after", "behind"]
    assert turn.messages[0].message.attachments == (file,)
    assert "changed" in await whats(stage, message)


async def test_the_same_text_again_is_no_change(stage: Stage) -> None:
    message = stage.message("hello")
    await stage.hear(message)
    assert (await edit(stage, message, "hello")).outcome is Outcome.DUPLICATE
    assert "changed" not in await whats(stage, message)


async def test_what_a_turn_has_taken_stays_as_it_was(stage: Stage) -> None:
    message = stage.message("before")
    await stage.hear(message)
    turn = await stage.claim()
    assert (await edit(stage, message, "after")).outcome is Outcome.DUPLICATE
    assert (await delete(stage, message)).outcome is Outcome.DUPLICATE
    taken = await stage.ledger.turn(turn.id)
    assert taken is not None
    assert [stored.message.text for stored in taken.messages] == ["before"]
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, "answer"))
    assert (await edit(stage, message, "after")).outcome is Outcome.DUPLICATE
    assert await stage.ledger.ready(T1) is None
    assert {"changed too late", "taken back too late"} <= set(await whats(stage, message))


async def test_a_mention_added_to_what_was_not_for_us_makes_it_a_message(stage: Stage) -> None:
    message = stage.message("hello all", addressed=False)
    await stage.hear(message, Outcome.IGNORED)
    added = await edit(stage, replace(message, addressed=True), "hello you")
    assert added.outcome is Outcome.MERGED
    assert await said(stage) == ["hello you"]


async def test_what_is_not_known_begins_only_where_it_may(stage: Stage) -> None:
    old, fresh = stage.message("old"), stage.message("fresh")
    assert (await edit(stage, old, "older", begins=False)).outcome is Outcome.IGNORED
    assert (await edit(stage, fresh, "fresher", begins=True)).outcome is Outcome.NEW
    assert (await stage.ledger.register(fresh)).outcome is Outcome.DUPLICATE
    assert await said(stage) == ["fresher"]


async def test_what_waits_for_its_mention_is_taken_up_as_it_reads_now(stage: Stage) -> None:
    reply = stage.message("befroe", addressed=False)
    await stage.hear(reply, Outcome.IGNORED)
    await edit(stage, reply, "after")
    opening = replace(stage.message("the mention"), sent_at=reply.sent_at - 1)
    await stage.hear(opening)
    assert await said(stage) == ["the mention", "after"]


# --- taken back ----------------------------------------------------------------------------------


async def test_what_was_taken_back_is_not_worked_on_and_does_not_come_again(stage: Stage) -> None:
    message = stage.message("never mind")
    heard = await stage.hear(message)
    gone = await delete(stage, message)
    assert (gone.outcome, gone.message, gone.idle) == (Outcome.WITHDRAWN, heard.message, True)
    assert await stage.ledger.ready(T1) is None
    assert (await stage.ledger.register(message)).outcome is Outcome.DUPLICATE
    assert (await edit(stage, message, "but no")).outcome is Outcome.DUPLICATE
    assert await stage.ledger.ready(T1) is None
    assert await stage.ledger.all_ready() == ()
    assert "taken back" in await whats(stage, message)
    assert heard.message is not None
    stored = await stage.ledger.message(heard.message)
    assert stored is not None
    assert stored.message.text == "", "its text is gone"


async def test_the_others_of_its_conversation_go_on(stage: Stage) -> None:
    first, second = stage.message("first"), stage.message("second")
    for message in (first, second):
        await stage.hear(message)
    assert not (await delete(stage, first)).idle
    assert await said(stage) == ["second"]
    third = stage.message("third")
    await stage.hear(third)
    assert not (await delete(stage, third)).idle, "a turn of it runs"


async def test_a_deletion_that_overtook_its_message_counts(stage: Stage) -> None:
    message = stage.message("never mind")
    assert (await delete(stage, message)).outcome is Outcome.IGNORED
    assert (await stage.ledger.register(message)).outcome is Outcome.DUPLICATE
    assert (await edit(stage, message, "but no")).outcome is Outcome.DUPLICATE
    assert await stage.ledger.ready(T1) is None


async def test_what_waited_behind_an_unknown_author_who_took_it_back_goes_on(stage: Stage) -> None:
    opening = stage.message("who am I", sender="bea", trust=None)
    await stage.hear(opening, Outcome.UNIDENTIFIED)
    behind = stage.message("behind", sender="ada")
    await stage.hear(behind, Outcome.UNIDENTIFIED)
    gone = await delete(stage, opening)
    assert gone.outcome is Outcome.WITHDRAWN
    assert [one.outcome for one in gone.taken_up] == [Outcome.NEW]
    assert await stage.ledger.unidentified("chat") == ()
    assert await stage.ledger.identify("chat", Identity("test:bea", "Bea", Trust.MEMBER)) == ()
    assert await said(stage) == ["behind"]


async def test_a_message_that_waits_for_its_mention_may_be_taken_back(stage: Stage) -> None:
    reply = stage.message("never mind", addressed=False)
    await stage.hear(reply, Outcome.IGNORED)
    await delete(stage, reply)
    await stage.hear(replace(stage.message("the mention"), sent_at=reply.sent_at - 1))
    assert await said(stage) == ["the mention"]
