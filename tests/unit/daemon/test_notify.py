from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.clock import ManualClock
from daemon.ledger import SqliteLedger, open_ledger
from daemon.model import ConversationId, EffectKind, NewEffect, effect_id
from daemon.notify import KEPT, Notifier
from tests.flow import RecordingConnector


class Carrier(RecordingConnector):
    """A connector that can carry notices."""

    def __init__(self, name: str, scheme: str) -> None:
        super().__init__(name)
        self.scheme = scheme

    def compose_notice(self, key: str, address: str, text: str) -> NewEffect:
        notice = ConversationId(f"notices:{address}")
        body = {"to": address, "text": text}
        return NewEffect(effect_id(key, 0), self.name, notice, EffectKind.NOTICE, {}, body)


class Office:
    """A notifier over two carriers and a connector that carries nothing."""

    def __init__(self, ledger: SqliteLedger, clock: ManualClock, *addresses: str) -> None:
        self.ledger, self.clock = ledger, clock
        self.woken: list[str] = []
        connectors = [RecordingConnector("mute"), Carrier("slack", "slack"), Carrier("m", "mail")]
        self.notifier = Notifier(
            ledger=ledger,
            addresses=addresses,
            connectors={connector.name: connector for connector in connectors},
            wake_delivery=self.woken.append,
        )

    async def due(self, connector: str) -> list[tuple[object, object]]:
        effects = await self.ledger.due_effects(connector, self.clock.now(), 10)
        return [(effect.body["to"], effect.body["text"]) for effect in effects]


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    ledger = await open_ledger(tmp_path, ManualClock())
    yield ledger
    await ledger.close()


async def test_everybody_is_told_by_their_own_way(ledger: SqliteLedger) -> None:
    office = Office(ledger, ManualClock(), "slack:C1", "slack:U2", "mail:ops@example.com")
    await office.notifier.tell("turn-1", "turn-1 was given up on")
    told = "turn-1 was given up on"
    assert await office.due("slack") == [("C1", told), ("U2", told)]
    assert await office.due("m") == [("ops@example.com", told)]
    assert office.woken == ["slack", "slack", "m"]
    assert list(office.notifier.latest) == [told]


async def test_what_somebody_wrote_is_for_people_and_not_for_the_log(
    ledger: SqliteLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    office = Office(ledger, ManualClock(), "mail:ops@example.com")
    await office.notifier.tell("eff-1", "eff-1 may have arrived", "It is the answer `Re: Hours`.")
    (told,) = await office.due("m")
    assert told == ("ops@example.com", "eff-1 may have arrived\nIt is the answer `Re: Hours`.")
    assert list(office.notifier.latest) == ["eff-1 may have arrived"]
    logged = capsys.readouterr().out
    assert "eff-1 may have arrived" in logged
    assert "Hours" not in logged


async def test_one_matter_is_told_once(ledger: SqliteLedger) -> None:
    office = Office(ledger, ManualClock(), "slack:C1")
    await office.notifier.tell("turn-1", "first")
    await office.notifier.tell("turn-1", "again")
    assert await office.due("slack") == [("C1", "first")]


async def test_an_address_that_nobody_carries_and_a_ledger_in_trouble_break_nothing(
    ledger: SqliteLedger,
) -> None:
    office = Office(ledger, ManualClock(), "pager:1", "slack:C1")
    await ledger.close()
    await office.notifier.tell("turn-1", "told")
    assert list(office.notifier.latest) == ["told"], "the log and /healthz have it in any case"


async def test_who_is_told_can_change_and_only_the_latest_are_shown(ledger: SqliteLedger) -> None:
    office = Office(ledger, ManualClock())
    for number in range(KEPT + 5):
        await office.notifier.tell(f"key-{number}", f"text {number}")
    assert len(office.notifier.latest) == KEPT
    office.notifier.addresses = ("slack:C9",)
    await office.notifier.tell("later", "now")
    assert await office.due("slack") == [("C9", "now")]
