"""How a connector reaches the people of `daemon.notify`, whom only the daemon knows."""

from __future__ import annotations

from pathlib import Path

from daemon import config
from daemon.app import Daemon
from daemon.clock import SystemClock
from daemon.ledger import open_ledger
from daemon.model import ConversationId, Effect, EffectId, EffectKind, EffectState, Sent

CONFIG = """
[daemon]
data_dir = "{data}"
notify = ["mail:ops@example.com"]
[connectors.support]
kind = "imap"
address = "support@example.com"
imap = {{ host = "127.0.0.1", port = 1, user = "u", password = {{ env = "PASSWORD" }} }}
smtp = {{ host = "127.0.0.1", port = 1 }}
"""


async def test_a_connectors_notice_goes_to_the_people_once(tmp_path: Path) -> None:
    path = tmp_path / "postroom.toml"
    path.write_text(CONFIG.format(data=tmp_path / "data"))
    settings = config.read(path, {})
    config.load_secrets(settings, {"PASSWORD": "p", "ANTHROPIC_API_KEY": "k"})
    ledger = await open_ledger(settings.daemon.data_dir, SystemClock())
    daemon = Daemon(settings, ledger, SystemClock())
    notice = Effect(
        id=EffectId("eff-1"),
        connector="support",
        conversation=ConversationId("c"),
        kind=EffectKind.NOTICE,
        target={"people": True},
        body={"text": "support: a mail needs a person"},
        state=EffectState.PENDING,
        created_at=0.0,
    )

    async def sending() -> None:
        return None

    try:
        for _ in range(2):
            receipt = await daemon.connectors["support"].deliver(notice, sending)
            assert isinstance(receipt, Sent)
        due = await ledger.due_effects("support", SystemClock().now(), 10)
        assert [effect.target for effect in due] == [{"to": ["ops@example.com"]}]
        assert (await ledger.counts()).outbox["pending"] == 1
    finally:
        await ledger.close()
