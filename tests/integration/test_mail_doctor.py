"""`postroom doctor` for a mailbox: what it tries, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from connectors.imap.diagnosis import judge_arrival
from daemon.errors import ConfigError
from daemon.model import Finding, HealthState
from daemon.ports import Diagnoses
from tests.dovecot import Postbox
from tests.integration.mail_stage import MailStage, mail_stage
from tests.mails import fetched, raw, secret, table
from tests.smtp_sink import Taken

pytestmark = pytest.mark.dovecot

OK, WARN, FAIL = HealthState.PASS, HealthState.WARN, HealthState.FAIL


async def findings(stage: MailStage, *, live: bool = False) -> Mapping[str, Finding]:
    assert isinstance(stage.connector, Diagnoses)
    return {found.part: found for found in await stage.connector.diagnose(live=live)}


async def test_a_good_mailbox_passes_and_nothing_is_sent(postbox: Postbox, tmp_path: Path) -> None:
    async with mail_stage(postbox, tmp_path, run=False) as stage:
        found = await findings(stage)
        assert {each.state for each in found.values()} == {OK}
        assert {"support.imap.login", "support.smtp", "support.authserv_id"} <= set(found)
        assert not stage.sink.taken


async def test_a_wrong_smtp_password_is_named(postbox: Postbox, tmp_path: Path) -> None:
    async with mail_stage(postbox, tmp_path, run=False) as stage:
        stage.sink.login = ("support", "right")
        smtp = {"host": "127.0.0.1", "port": stage.sink.port, "security": "plain"}
        smtp |= {"user": "support", "password": secret("wrong")}
        stage.table = stage.table.model_validate({**dict(stage.table), "smtp": smtp})
        stage.connector = stage.restarted()
        found = (await findings(stage))["support.smtp"]
        assert found.state is FAIL
        assert "password" in found.detail
        assert "wrong" not in found.detail
        assert found.mend


async def test_a_mailbox_that_can_trust_nobody_is_told_so(postbox: Postbox, tmp_path: Path) -> None:
    async with mail_stage(postbox, tmp_path, run=False, authserv_id=None) as stage:
        found = (await findings(stage))["support.authserv_id"]
        assert found.state is WARN
        assert "Authentication-Results" in found.mend


async def test_without_smtp_notices_cannot_be_mailed(postbox: Postbox, tmp_path: Path) -> None:
    async with mail_stage(postbox, tmp_path, run=False, smtp=None, mode="draft") as stage:
        assert (await findings(stage, live=True))["support.smtp"].state is WARN


async def test_a_mail_to_ourselves_shows_that_forged_results_come_through(
    postbox: Postbox, tmp_path: Path
) -> None:
    async with mail_stage(postbox, tmp_path, run=False) as stage:

        def deliver(taken: Taken) -> None:
            postbox.deliver(taken.raw)  # LMTP strips nothing

        stage.sink.deliver = deliver
        found = await findings(stage, live=True)
        assert found["support.live"].state is OK
        assert found["support.live.forged"].state is FAIL
        (taken,) = stage.sink.taken
        assert taken.recipients == ("support@example.com",)


def test_a_server_that_strips_forged_results_passes() -> None:
    arrived = fetched(raw(proven=False)).parsed
    found = judge_arrival("support.live", table(), arrived, "<one@example.com>")
    assert [each.state for each in found] == [OK]


def test_a_server_that_replaces_message_ids_is_told_of() -> None:
    arrived = fetched(raw(proven=False)).parsed
    (found,) = judge_arrival("support.live", table(), arrived, "<doctor@example.com>")
    assert found.state is WARN


def test_reply_without_smtp_is_no_configuration() -> None:
    with pytest.raises((ValueError, ConfigError), match="needs smtp"):
        table(smtp=None)
