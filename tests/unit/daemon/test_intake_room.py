"""What can wait outside is left there while too many messages wait inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon import config, room
from daemon.app import Daemon
from daemon.clock import SystemClock
from daemon.ledger import open_ledger
from daemon.model import ConversationId, Message, Outcome, Priority, Sender, Trust

CONFIG = """
[daemon]
data_dir = "{data}"
[connectors.support]
kind = "imap"
address = "support@example.com"
imap = {{ host = "127.0.0.1", port = 1, user = "u", password = {{ env = "PASSWORD" }} }}
"""


def mail(number: int) -> Message:
    return Message(
        connector="support",
        outside_id=f"INBOX:1:{number}",
        conversation=ConversationId(f"mail:{number}"),
        sender=Sender("mail:a@example.com", "A", Trust.PUBLIC),
        text="hello",
        sent_at=0.0,
        priority=Priority.MAIL,
        target={},
    )


async def test_intake_is_full_when_too_many_wait_and_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "postroom.toml"
    path.write_text(CONFIG.format(data=tmp_path / "data"))
    settings = config.read(path, {})
    config.load_secrets(settings, {"PASSWORD": "p", "ANTHROPIC_API_KEY": "k"})
    monkeypatch.setattr(room, "MOST_WAITING", 2)
    ledger = await open_ledger(settings.daemon.data_dir, SystemClock())
    daemon = Daemon(settings, ledger, SystemClock())
    try:
        assert daemon.intake.full() == ""
        for number in (1, 2):
            await daemon.intake.accept(mail(number))
        await daemon.pulse.beat()
        assert daemon.intake.full() == "2 messages wait for their turn"
        assert (await daemon.intake.accept(mail(3))).outcome is Outcome.NEW
    finally:
        await ledger.close()
