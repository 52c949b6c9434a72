from __future__ import annotations

import base64
import json
import logging
import sys
import threading

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
        "p%40ss+word",
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


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "\0somebody\0"])
def test_a_secret_within_base64_is_hidden_wherever_it_begins(before: str) -> None:
    """As SMTP and HTTP send a name and a password in one."""
    secret = "hunter2secret-of-a-mailbox"
    redactor = logs.Redactor()
    redactor.learn([secret])
    sent = base64.b64encode(f"{before}{secret}x".encode()).decode()
    left = redactor.text(sent).replace(logs.REDACTED, "")
    assert len(left) <= len(base64.b64encode(before.encode())) + 8, "its edges, and what is beside"
    assert redactor.hits == 1


def test_a_secret_is_hidden_as_json_and_python_quote_it() -> None:
    redactor = logs.Redactor()
    redactor.learn(['with "quotes" and \\'])
    for text in (json.dumps({"it": 'with "quotes" and \\'}), repr('with "quotes" and \\')):
        assert "quotes" not in redactor.text(text)
    assert redactor.text("quotes and words stay") == "quotes and words stay"
    assert redactor.hits == 2


def test_a_traceback_on_a_terminal_is_redacted_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "console").learn(["hunter2secret"])
    error = ValueError("hunter2secret")
    structlog.get_logger().error("thing.failed", exc_info=error)
    structlog.get_logger().error("thing.failed", exc_info=(ValueError, error, None))
    logging.getLogger("some.library").error("failed", exc_info=error)
    out = capsys.readouterr().out
    assert out.count("ValueError") == 3
    assert "hunter2secret" not in out
    assert logs.secrets_hidden() > 0


def test_what_nobody_catches_is_logged_without_its_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for where, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(where, name, getattr(where, name))  # as it was, afterwards
    logs.set_up("info", "json").learn(["hunter2secret"])
    logs.catch_crashes()

    def crash() -> None:
        raise ValueError("hunter2secret")

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    error = ValueError("hunter2secret")
    sys.excepthook(ValueError, error, None)
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert [entry["event"] for entry in events] == ["thread.crashed", "process.crashed"]
    assert all("ValueError" in entry["exception"] for entry in events)
    assert "hunter2secret" not in out + err


def test_what_is_said_without_a_logger_is_redacted_by_what_the_logs_know() -> None:
    logs.set_up("info", "json").learn(["hunter2secret"])
    assert logs.hidden("no hunter2secret here") == f"no {logs.REDACTED} here"
    assert logs.hidden("nor xoxb-1-2") == f"nor {logs.REDACTED}"
