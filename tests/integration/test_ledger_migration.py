"""A ledger that the first version wrote, with everything in it, opened by this one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from daemon.budgets import Budget, Scope
from daemon.clock import ManualClock
from daemon.errors import LedgerError
from daemon.ledger import migrations, open_ledger, read_only
from daemon.model import ConversationId, Cursor, Outcome, TurnId, TurnState
from daemon.ports import Ending
from tests.ledgers import IMPLEMENTATIONS, LIMITS, Stage

# What a daemon of version 1 left when it was killed: one turn done and sent, one running whose
# death was counted before, an effect in `sending`, a message that waits, a dead letter.
VERSION_1 = """
update owner set epoch = 7;
insert into inbox (message, connector, outside_id, alternate_id, state, addressed, registered_at,
  conversation, turn, priority, sender, sender_name, sender_trust, sent_at, target, subject, body,
  attachments, names, raw_path)
values
  ('msg-1', 'chat', 'C1:1', 'alt-1', 'claimed', 1, 100.0, 't1', 'turn-1', 0, 'test:ada', 'Ada',
   'member', 99.0, '{"thread":"t1"}', '', 'hello', '[]', '["<m1@x>"]', null),
  ('msg-2', 'chat', 'C1:2', null, 'claimed', 1, 200.0, 't2', 'turn-2', 0, 'test:bob', 'Bob',
   'member', 199.0, '{"thread":"t2"}', '', 'work', '[]', '[]', 'raw/chat/2'),
  ('msg-3', 'chat', 'C1:3', null, 'waiting', 1, 300.0, 't2', null, 0, 'test:bob', 'Bob',
   'member', 299.0, '{"thread":"t2"}', '', 'more', '[]', '[]', null);
insert into inbox (message, connector, outside_id, state, addressed, registered_at, reason, raw)
values ('msg-4', 'mail', '9', 'unreadable', 0, 400.0, 'no headers', x'00ff');
insert into workspace values ('ws-1', 'conversations/ws-1', 's-1', 100.0),
  ('ws-2', 'conversations/ws-2', 's-2', 200.0);
insert into conversation values ('t1', 'chat', 0, 'member', 'test:ada', 'ws-1', 100.0, 100.0),
  ('t2', 'chat', 0, 'member', 'test:bob', 'ws-2', 200.0, 300.0);
insert into name values ('chat', '<m1@x>', 't1');
insert into turn (id, conversation, connector, trust, state, epoch, workspace, attempt, deaths, pid,
  pid_started, claimed_at, ended_at, text)
values
  ('turn-1', 't1', 'chat', 'member', 'done', 6, 'ws-1', 1, 0, null, null, 101.0, 110.0, 'hi'),
  ('turn-2', 't2', 'chat', 'member', 'running', 7, 'ws-2', 1, 1, 4711, 99, 201.0, null, '');
insert into outbox (id, connector, conversation, turn, kind, state, attempts, created_at,
  started_at, target, body, names)
values ('eff-1', 'chat', 't1', 'turn-1', 'post', 'sending', 1, 110.0, 111.0, '{"thread":"t1"}',
  '{"text":"hi"}', '[]');
insert into cursor values ('mail', 'INBOX', 5, 42);
insert into cost (conversation, turn, booked_on, trust, model, input, output, cache_read,
  cache_write, cost, status, started_at, seconds)
values ('t1', 'turn-1', 'test:ada', 'member', 'claude', 10, 5, 0, 0, 0.25, 200, 105.0, 1.0);
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory of version 1."""
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        migrations.migrate(connection, up_to=1)
        connection.executescript(VERSION_1)
        assert migrations.version_of(connection) == 1
    return tmp_path


async def test_everything_of_the_first_version_is_worked_on_by_this_one(data: Path) -> None:
    clock = ManualClock()
    ledger = await open_ledger(data, clock)
    try:
        assert ledger.epoch == 8
        (turn,) = await ledger.interrupted()
        assert (turn.id, turn.deaths, turn.attempt) == ("turn-2", 2, 1)
        assert turn.workspace.root == data / "conversations" / "ws-2"
        assert turn.messages[0].message.raw == "raw/chat/2"
        (effect,) = await ledger.left_sending("chat")
        assert (effect.id, effect.started_at) == ("eff-1", 111.0)
        assert await ledger.cursor("mail", "INBOX") == Cursor("mail", "INBOX", 5, 42)
        booked = [Budget(Scope.ALL), Budget(Scope.CONNECTOR, "chat"), Budget(Scope.TURN, "turn-1")]
        assert await ledger.spent(booked, 0.0) == (0.25, 0.25, 0.25)
        found = await ledger.find_conversation("chat", ("<m1@x>",))
        assert found is not None
        assert found.id == "t1"
        (letter,) = await ledger.dead()
        assert letter["id"] == "msg-4"
        done = await ledger.turn(TurnId("turn-1"))
        assert done is not None
        assert done.state is TurnState.DONE

        await ledger.end_turn(turn.id, Ending(TurnState.DONE, "done"))
        following = await ledger.claim(ConversationId("t2"), None, LIMITS)
        assert following is not None
        assert [stored.message.text for stored in following.messages] == ["more"]
        words = Stage(IMPLEMENTATIONS[0], data, ledger, clock)
        known = words.message(outside_id="C1:1")
        assert (await ledger.register(known)).outcome is Outcome.DUPLICATE
        assert (await ledger.register(words.message())).outcome is Outcome.NEW
    finally:
        await ledger.close()


async def test_what_the_first_version_kept_goes_by_the_rules_of_this_one(data: Path) -> None:
    raw = data / "raw" / "chat" / "2"
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"raw")
    ledger = await open_ledger(data, ManualClock())
    gone = await ledger.erase("test:bob")
    await ledger.close()
    assert [workspace.id for workspace in gone] == ["ws-2"]
    assert not raw.exists()


async def test_it_is_read_only_once_it_has_been_brought_up_to_date(data: Path) -> None:
    with pytest.raises(LedgerError, match="`postroom run` brings an older one up to date"):
        await read_only(data)
    await (await open_ledger(data, ManualClock())).close()
    reading = await read_only(data)
    story = await reading.trace("C1:1")
    await reading.close()
    assert story is not None
