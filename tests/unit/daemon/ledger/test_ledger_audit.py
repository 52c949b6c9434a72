"""The audit: what is recorded when, and that no change of it goes unseen."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemon.budgets import Budget, Raise, Scope
from daemon.ledger import audit, intake, migrations, read_only
from daemon.model import (
    AGENT,
    COMMAND_LINE,
    DAEMON,
    Audited,
    AuditFindings,
    AuditHead,
    ConversationId,
    ModelCall,
    Sender,
    Stop,
    Trust,
    TurnState,
    Usage,
)
from daemon.ports import Ending
from tests.ledgers import IMPLEMENTATIONS, Stage, new_stage, post

T1, DAY = ConversationId("t1"), 86_400.0
Record = dict[str, Any]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with new_stage(tmp_path) as stage:
        yield stage


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        migrations.migrate(connection)
        yield connection


async def records(root: Path) -> list[Record]:
    reading = await read_only(root)
    try:
        return [dict(record) for record in await reading.audit_after(0, 1000)]
    finally:
        await reading.close()


async def names(root: Path) -> set[str]:
    """Whom and what the aliases still mean."""
    reading = await read_only(root)
    try:
        return {str(name) for name in (await reading.audit_names()).values()}
    finally:
        await reading.close()


async def findings(root: Path, *anchors: AuditHead) -> AuditFindings:
    reading = await read_only(root)
    try:
        return await reading.verify_audit(anchors)
    finally:
        await reading.close()


async def head(stage: Stage) -> AuditHead:
    found = await stage.ledger.audit_head()
    assert found is not None
    return found


async def retain(stage: Stage, *, days: float) -> None:
    before = stage.clock.now() - days * DAY
    await stage.ledger.retain(records_before=before, workspaces_before=before, keys_before=before)


# --- what is recorded -----------------------------------------------------------------------------


async def test_what_the_model_cost_and_what_was_added_to_a_budget_is_recorded(stage: Stage) -> None:
    turn = await stage.running()
    await stage.ledger.book(
        ModelCall(T1, turn.id, turn.sender, "claude", Usage(10, 5), 0.25, 200, 1.0, 2.0)
    )
    await stage.ledger.raise_budget(Raise(Budget(Scope.SENDER, turn.sender), 5.0, None))
    *_, asked, raised = await records(stage.root)
    assert (asked["what"], asked["by"]) == ("model.asked", AGENT)
    assert asked["facts"] == {"turn": turn.id, "model": "claude", "status": 200, "dollars": 0.25}
    assert (raised["what"], raised["by"]) == ("budget.raised", COMMAND_LINE)
    assert raised["facts"] == {"scope": "per_sender_daily", "dollars": 5.0, "until": None}
    assert raised["about"] == (await records(stage.root))[1]["by"], "the one who asked"
    assert "digest" not in raised
    assert turn.sender not in json.dumps([asked, raised]), "nobody's name is in the chain"
    assert (await findings(stage.root)).faults == ()


async def test_each_step_from_the_question_to_the_arrival_of_the_answer_is_recorded(
    stage: Stage,
) -> None:
    turn = await stage.running("the secret plan")
    used = ((1.0, "Bash"), (2.0, "Bash"), (3.0, "tell the secret plan"))
    await stage.ledger.note_tools(turn.id, used)
    label, answer = post("label"), post("answer", text="the secret answer")
    await stage.ledger.stage(turn.id, 1, "toolu_1", label)
    ending = Ending(TurnState.DONE, "the secret answer", "", (answer,), keep_staged=True)
    await stage.ledger.end_turn(turn.id, ending)
    for effect in (label, answer):
        await stage.ledger.mark_sending(effect.id)
        await stage.ledger.mark_sent(effect.id, f"ref-{effect.id}")
    told = await records(stage.root)
    assert [(record["what"], record["by"]) for record in told if record["by"] != told[1]["by"]] == [
        ("daemon.started", DAEMON),
        ("tools.used", AGENT),
        ("effect.staged", AGENT),
        ("turn.ended", AGENT),
        ("effect.sent", DAEMON),
        ("effect.sent", DAEMON),
    ]
    assert told[1]["what"] == "message.claimed"
    assert told[1]["facts"] == {
        "message": turn.messages[0].id,
        "turn": turn.id,
        "connector": "chat",
        "trust": "member",
        "sender_trust": "member",
    }
    assert told[2]["facts"]["tools"] == {"Bash": 2, "unnamed": 1}
    assert told[4]["facts"]["effects"] == [answer.id]
    assert told[3]["digest"] == told[5]["digest"] != told[6]["digest"], "as it was staged"
    assert len({record["conversation"] for record in told[1:]}) == 1
    assert await names(stage.root) == {"test:ada", "t1"}
    for word in ("secret", "test:ada", '"t1"'):
        assert word not in json.dumps(told)
    assert await findings(stage.root) == AuditFindings(7, await head(stage), ())


async def test_who_decided_is_recorded(stage: Stage) -> None:
    dead = [await stage.running(conversation=f"t{number}") for number in (1, 2)]
    for turn in dead:
        await stage.ledger.end_turn(turn.id, Ending(TurnState.DEAD, "", "three failures"))
    await stage.ledger.dead_retry(dead[0].id)
    await stage.ledger.dead_discard(dead[1].id)
    await stage.ledger.register(Stop("chat", "s1", T1, Sender("test:bob", "Bob", Trust.MEMBER)))
    await stage.ledger.call_off(T1)
    await stage.ledger.call_off(ConversationId("never heard of"))
    await stage.ledger.erase("t2")
    told = [record for record in await records(stage.root) if record["by"] != DAEMON]
    by = {record["what"]: record["by"] for record in told if record["by"] != told[0]["by"]}
    bob = next(r["by"] for r in told if r["what"] == "conversation.stopped")
    assert bob.startswith("person-")
    assert bob != told[0]["by"]
    assert by == {
        "dead.retried": COMMAND_LINE,
        "dead.discarded": COMMAND_LINE,
        "conversation.stopped": COMMAND_LINE,
        "records.erased": COMMAND_LINE,
    }
    assert [r["what"] for r in told].count("conversation.stopped") == 2


async def test_what_others_decide_is_recorded_by_their_word(stage: Stage) -> None:
    turn = await stage.running()
    entry = Audited("tool.approved", "test:ada", "t1", {"turn": turn.id}, ("rm -r build",))
    await stage.ledger.audit(entry)
    told = (await records(stage.root))[-1]
    assert (told["what"], told["facts"]) == ("tool.approved", {"turn": turn.id})
    assert len(bytes.fromhex(told["digest"])) == 32
    assert "build" not in json.dumps(told)


async def test_a_record_stands_and_falls_with_what_it_tells_of(stage: Stage) -> None:
    turn = await stage.running()
    before = await head(stage)
    with pytest.raises(ValueError, match="Out of range"):
        await stage.ledger.audit(Audited("odd.figure", DAEMON, facts={"number": float("nan")}))
    assert await head(stage) == before
    assert await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, "hi"))
    assert not await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, "hi")), "once"
    assert (await head(stage)).seq == before.seq + 1


def test_registering_a_message_costs_nothing_for_it(
    database: sqlite3.Connection, tmp_path: Path
) -> None:
    """It is the hot path: nobody is acknowledged before it returns."""
    words = Stage(IMPLEMENTATIONS[0], tmp_path, None)  # type: ignore[arg-type]
    asked: list[str] = []
    database.set_trace_callback(asked.append)
    for number in range(3):
        intake.register(database, words.message(f"hello {number}"), None, 1.0)
    database.set_trace_callback(None)
    assert asked
    assert [statement for statement in asked if "audit" in statement] == []


# --- no change goes unseen ------------------------------------------------------------------------


async def seven(stage: Stage) -> AuditHead:
    """A ledger at rest with seven records; the newest."""
    for number in (1, 2):
        await stage.sent(conversation=f"t{number}")
    newest = await head(stage)
    assert newest.seq == 7
    await stage.ledger.close()
    return newest


def rewrite(root: Path, *statements: str) -> None:
    """By somebody who can write the file, and takes the triggers away first."""
    with closing(sqlite3.connect(root / "ledger.db", isolation_level=None)) as connection:
        connection.execute("drop trigger audit_stays")
        connection.execute("drop trigger audit_stays_as_it_is")
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("statements", "fault"),
    [
        (
            ("update audit set record = replace(record, 'member', 'nember') where seq = 2",),
            "record 2 is not as it was written",
        ),
        (("update audit set at = at + 1 where seq = 2",), "record 2 is not as it was written"),
        (
            ("update audit set hash = replace(hash, substr(hash, 1, 1), 'x') where seq = 2",),
            "record 2 is not as it was written",
        ),
        (("update audit set record = 'nothing' where seq = 2",), "record 2 is not as it was"),
        (("update audit set record = '[]' where seq = 2",), "record 2 is not as it was"),
        (("delete from audit where seq = 3",), "record 3 is missing"),
        (("delete from audit where seq in (3, 4)",), "records 3 to 4 are missing"),
        (("delete from audit where seq > 5",), "records 6 to 7 are missing: the end is cut off"),
        (("delete from audit",), "records 1 to 7 are missing: the end is cut off"),
        (("delete from audit where seq < 3",), "records 1 to 2 are missing, untold"),
        (
            (
                "update audit set seq = 99 where seq = 2",
                "update audit set seq = 2 where seq = 3",
                "update audit set seq = 3 where seq = 99",
            ),
            "record 2 is not as it was written",
        ),
    ],
)  # fmt: skip
async def test_what_was_tampered_with_is_found(
    stage: Stage, statements: tuple[str, ...], fault: str
) -> None:
    await seven(stage)
    assert (await findings(stage.root)).faults == ()
    rewrite(stage.root, *statements)
    assert any(told.startswith(fault) for told in (await findings(stage.root)).faults)


async def test_one_flipped_bit_of_the_file_is_found(stage: Stage) -> None:
    await seven(stage)
    file = stage.root / "ledger.db"
    sound = file.read_bytes()
    at = sound.index(b'"what":"turn.ended"')
    for bit in range(8):
        flipped = bytearray(sound)
        flipped[at + 10] ^= 1 << bit
        file.write_bytes(flipped)
        assert (await findings(stage.root)).faults != (), bit
    file.write_bytes(sound)
    assert (await findings(stage.root)).faults == ()


def forged(row: Record, before: str) -> tuple[str, str]:
    """A record with another one's hash before it, and its own, as our code would write them."""
    record = json.dumps(
        {**json.loads(row["record"]), "before": before}, sort_keys=True, separators=(",", ":")
    )
    return record, hashlib.sha256(record.encode()).hexdigest()


def forge(root: Path, change: Callable[[Record], Record], *, from_: int, to: int) -> None:
    """Change a record, and compute those behind it anew up to a number."""
    with closing(sqlite3.connect(root / "ledger.db", isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("select * from audit order by seq").fetchall()
        before = found[from_ - 2]["hash"]
        for row in found[from_ - 1 : to]:
            changed = dict(row)
            if row["seq"] == from_:
                changed["record"] = json.dumps(change(json.loads(row["record"])))
            record, before = forged(changed, before)
            connection.execute(
                "update audit set record = ?, hash = ? where seq = ?", (record, before, row["seq"])
            )


def other_trust(record: Record) -> Record:
    return {**record, "facts": {**record["facts"], "trust": "operator"}}


async def test_a_record_whose_hash_was_computed_anew_is_betrayed_by_the_next(stage: Stage) -> None:
    await seven(stage)
    rewrite(stage.root)
    forge(stage.root, other_trust, from_=2, to=2)
    assert (await findings(stage.root)).faults == ("record 3 does not follow the one before it",)


async def test_a_chain_computed_anew_to_its_end_is_betrayed_by_an_anchor(stage: Stage) -> None:
    newest = await seven(stage)
    rewrite(stage.root)
    forge(stage.root, other_trust, from_=2, to=7)
    assert (await findings(stage.root)).faults == ()
    (fault,) = (await findings(stage.root, newest)).faults
    assert fault == f"record 7 is not there as it was anchored, with hash {newest.hash}"


async def test_a_tail_cut_off_without_a_trace_is_betrayed_by_an_anchor(stage: Stage) -> None:
    newest = await seven(stage)
    rewrite(
        stage.root,
        "delete from audit where seq > 5",
        "update sqlite_sequence set seq = 5 where name = 'audit'",
    )
    assert (await findings(stage.root)).faults == ()
    assert len((await findings(stage.root, newest)).faults) == 1


@pytest.mark.parametrize(
    "statement", ["delete from audit where seq = 1", "update audit set at = 0", "delete from audit"]
)
def test_the_database_itself_forbids_a_change(database: sqlite3.Connection, statement: str) -> None:
    audit.append(database, 1.0, Audited("daemon.started", DAEMON))
    with pytest.raises(sqlite3.IntegrityError, match="record of the audit"):
        database.execute(statement)


# --- age and erasing ------------------------------------------------------------------------------


async def test_age_cuts_the_beginning_and_a_record_tells_of_it(stage: Stage) -> None:
    await stage.sent(conversation="old")
    old = await head(stage)
    await stage.clock.advance(100 * DAY)
    await stage.sent(conversation="young")
    await retain(stage, days=90)
    told = await records(stage.root)
    assert [record["what"] for record in told] == [
        "message.claimed", "turn.ended", "effect.sent", "audit.cut",
    ]  # fmt: skip
    assert told[-1]["facts"] == {"through": old.seq, "hash": old.hash}
    assert await names(stage.root) == {"young", "test:ada"}
    assert (await findings(stage.root, old)).faults == (), "it went by the rules"
    await retain(stage, days=90)
    assert len(await records(stage.root)) == len(told), "not again on the same day"
    await stage.ledger.close()
    rewrite(stage.root, "delete from audit where seq = 5")
    (fault,) = (await findings(stage.root)).faults
    assert fault == "record 5 is missing, untold by any cut"


def test_a_cut_that_was_interrupted_is_whole_and_goes_on(
    database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "CHUNK", 2)
    for number in range(5):
        audit.append(database, number * 2 * DAY, Audited(f"thing.done_{number}", DAEMON))
    left = []
    while audit.cut(database, 7 * DAY, 10 * DAY):
        assert audit.verify(database, ()).faults == ()
        left.append(len(audit.after(database, 0, 100)))
    assert left == [6, 4, 2]


async def test_a_digest_is_never_without_somebodys_salt(stage: Stage) -> None:
    """Else whoever has it could guess what was digested, whatever was erased."""
    before = await head(stage)
    with pytest.raises(ValueError, match="salt"):
        await stage.ledger.audit(Audited("thing.done", COMMAND_LINE, texts=("test:eve",)))
    assert await head(stage) == before


async def test_who_had_a_budget_raised_is_forgotten_too(stage: Stage) -> None:
    await stage.ledger.raise_budget(Raise(Budget(Scope.SENDER, "test:eve"), 5.0, None))
    assert await names(stage.root) == {"test:eve"}
    await stage.ledger.erase("test:eve")
    assert await names(stage.root) == set()


async def test_what_ends_after_its_conversation_was_erased_brings_no_name_back(
    stage: Stage,
) -> None:
    turn = await stage.running()
    await stage.ledger.erase("t1")
    await stage.ledger.book(
        ModelCall(T1, turn.id, turn.sender, "claude", Usage(10, 5), 0.25, 200, 1.0, 2.0)
    )
    late = Audited("thing.done", turn.sender, T1, {"turn": turn.id}, ("to whom",), about="t1")
    await stage.ledger.audit(late)
    assert await names(stage.root) == set()
    *_, asked, done = await records(stage.root)
    assert asked["facts"]["dollars"] == 0.25, "the money was spent all the same"
    assert (done["what"], done["conversation"], done["by"]) == ("thing.done", "", DAEMON)
    assert "digest" not in done


@pytest.mark.parametrize("who", ["t1", "test:eve"])
async def test_what_is_erased_has_no_name_in_it_any_more(stage: Stage, who: str) -> None:
    await stage.hear(stage.message("from eve", sender="eve"))
    turn = await stage.claim()
    await stage.ledger.end_turn(turn.id, Ending(TurnState.DONE, "hi", "", (post("a"),)))
    await stage.sent(conversation="others")
    before = await records(stage.root)
    await stage.ledger.erase(who)
    assert await names(stage.root) == {"others", "test:ada"}
    assert (await records(stage.root))[:-1] == before, "the chain stays"
    assert (await findings(stage.root)).faults == ()


async def test_of_a_shared_conversation_only_the_one_who_is_erased_loses_the_name(
    stage: Stage,
) -> None:
    for sender in ("eve", "ada"):
        await stage.hear(stage.message(f"from {sender}", sender=sender))
    await stage.claim()
    await stage.ledger.erase("test:eve")
    assert await names(stage.root) == {"test:ada"}, "what was answered to both is hers no more"
