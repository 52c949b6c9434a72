from __future__ import annotations

import json
import logging

import pytest
import structlog

from daemon import logs


@pytest.mark.parametrize(
    "leak",
    [
        "token xoxb-123-abc",
        "xapp-1-A-2-b",
        "key sk-ant-api03-xyz",
        "Authorization: Bearer abcdefgh12345678",
        "AKIAABCDEFGHIJKLMNOP",
        "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----",
        "hunter2secret",
        "aHVudGVyMnNlY3JldA",
        "p%40ss%20word",
    ],
)
def test_no_secret_reaches_a_line(leak: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json").learn(["hunter2secret", "p@ss word"])
    structlog.get_logger().error(
        "thing.failed", detail={"inner": [leak]}, extra=leak, exc_info=ValueError(leak)
    )
    line = capsys.readouterr().out
    entry = json.loads(line)
    assert (entry["event"], entry["level"]) == ("thing.failed", "error")
    assert entry["timestamp"].endswith("Z")
    secret = "MIIB" if "PRIVATE" in leak else leak.rsplit(maxsplit=1)[-1]
    assert secret not in line


def test_ids_stay_readable(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json").learn(["hunter2secret"])
    structlog.get_logger().info("turn.finished", turn="turn-1", seconds=1.5, first=None)
    entry = json.loads(capsys.readouterr().out)
    assert (entry["turn"], entry["seconds"], entry["first"]) == ("turn-1", 1.5, None)


def test_another_level_counts_from_the_next_line_on(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    log = structlog.get_logger()
    log.debug("unseen.line")
    logs.set_level("debug")
    log.debug("seen.line")
    logs.set_level("error")
    log.warning("unseen.again")
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events == ["seen.line"]


def test_secrets_learnt_later_hide_with_those_known_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    redactor = logs.set_up("info", "json")
    redactor.learn(["first-secret"])
    redactor.learn(["second-secret"])
    structlog.get_logger().info("key.changed", old="first-secret", new="second-secret")
    assert "secret" not in capsys.readouterr().out


def test_a_librarys_line_is_redacted_and_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json").learn(["hunter2secret"])
    logging.getLogger("some.library").warning("login with %s failed", "hunter2secret")
    logging.getLogger("some.library").info("chatter")
    (line,) = capsys.readouterr().out.splitlines()
    entry = json.loads(line)
    assert entry["event"] == f"login with {logs.REDACTED} failed"
    assert entry["level"] == "warning"
