from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from daemon import config as configuration
from daemon.errors import ConfigError
from daemon.reload import TAKEN_UP, compare

RUNNING: dict[str, Any] = {
    "daemon": {"notify": ["slack:C1"], "log_level": "info"},
    "budgets": {"per_turn": 1.0},
    "agent": {"api_key": {"file": "/run/key"}},
    "connectors": {
        "slack": {
            "kind": "slack",
            "app_token": {"env": "SLACK_APP_TOKEN"},
            "bot_token": {"env": "SLACK_BOT_TOKEN"},
        }
    },
}


def changed(**tables: dict[str, Any]) -> configuration.Config:
    document = copy.deepcopy(RUNNING)
    for name, rows in tables.items():
        document[name] = {**document.get(name, {}), **rows}
    return configuration.parse(document)


def test_what_has_not_changed_is_not_touched() -> None:
    running = configuration.parse(RUNNING)
    reload = compare(running, configuration.parse(RUNNING))
    assert (reload.config, reload.taken, reload.waiting) == (running, (), ())


def test_what_can_be_is_taken_up_and_the_rest_is_named() -> None:
    running = configuration.parse(RUNNING)
    written = changed(
        daemon={"log_level": "debug", "notify": [], "listen": "127.0.0.1:9"},
        budgets={"daily": 5.0, "channels": {"c1": 2.0}},
        retention={"records_days": 40},
        pool={"idle_seconds": 5},
        trust={"operators": ["slack:T1:U1"]},
        agent={"api_key": {"file": "/run/other"}},
    )
    reload = compare(running, written)
    assert reload.taken == (
        "budgets.channels",
        "budgets.daily",
        "daemon.log_level",
        "daemon.notify",
        "retention.records_days",
    )
    assert reload.waiting == (
        "agent.api_key.file",
        "daemon.listen",
        "pool.idle_seconds",
        "trust.operators",
    )
    config = reload.config
    assert (config.daemon.log_level, config.daemon.notify) == ("debug", ())
    assert (config.budgets.per_turn, config.budgets.daily) == (1.0, 5.0)
    assert config.budgets.channels == {"C1": 2.0}
    assert (config.daemon.port, config.pool.idle_seconds) == (8080, 600)
    assert config.agent.api_key is running.agent.api_key


def test_what_a_connector_may_cost_is_taken_up_and_the_rest_of_its_table_is_not() -> None:
    table = {**RUNNING["connectors"]["slack"], "daily": 5.0, "sockets": 4}
    reload = compare(configuration.parse(RUNNING), changed(connectors={"slack": table}))
    assert reload.taken == ("connectors.slack.daily",)
    assert reload.waiting == ("connectors.slack.sockets",)
    assert reload.config.limits().connectors == {"slack": 5.0}


def test_a_connector_that_comes_or_goes_waits_for_a_restart() -> None:
    both = copy.deepcopy(RUNNING["connectors"])
    both["second"] = {**both["slack"], "answer_public": True}
    reload = compare(configuration.parse(RUNNING), changed(connectors=both))
    assert reload.taken == ()
    assert "connectors.second.answer_public" in reload.waiting
    assert set(reload.config.connectors) == {"slack"}


def test_a_notice_that_has_no_way_out_of_the_running_daemon_is_refused() -> None:
    server = {
        "host": "mx.example.com",
        "port": 993,
        "security": "tls",
        "user": "a",
        "password": {"env": "MAIL_PASSWORD"},
    }
    mail = {"kind": "imap", "address": "a@example.com", "imap": server, "smtp": server}
    connectors = {**RUNNING["connectors"], "mail": mail}
    written = changed(daemon={"notify": ["mail:ops@example.com"]}, connectors=connectors)
    with pytest.raises(ConfigError, match=r"daemon\.notify: .*needs a connector"):
        compare(configuration.parse(RUNNING), written)


def test_every_key_that_is_taken_up_exists() -> None:
    for key in TAKEN_UP:
        table, _, name = key.partition(".")
        fields = configuration.Config.model_fields[table].annotation
        assert name in fields.model_fields  # type: ignore[union-attr]


def test_secrets_in_files_are_read_again_and_those_of_the_environment_are_left(
    tmp_path: Path,
) -> None:
    key = tmp_path / "key"
    key.write_text("first-key\n")
    running = changed(agent={"api_key": {"file": str(key)}})
    environ = {"SLACK_APP_TOKEN": "xapp-1", "SLACK_BOT_TOKEN": "xoxb-1"}
    configuration.load_secrets(running, environ)
    assert environ == {}
    key.write_text("second-key\n")
    assert configuration.reread_secrets(running, environ) == ["second-key"]
    assert running.agent.api_key.reveal() == "second-key"
    key.unlink()
    with pytest.raises(ConfigError, match=r"agent\.api_key: cannot read"):
        configuration.reread_secrets(running, environ)
    assert running.agent.api_key.reveal() == "second-key"
