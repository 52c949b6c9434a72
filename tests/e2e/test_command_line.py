"""The installed `postroom`, as an operator types it: exit statuses, and one line an error."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon.demo.model import StandInModel
from daemon.demo.process import DaemonProcess
from daemon.demo.slack import StandInSlack
from tests.e2e.conftest import NewDaemon
from tests.e2e.looking import eventually, files_below, texts

pytestmark = pytest.mark.e2e

POSTROOM = Path(sys.executable).with_name("postroom")
BEA, CHANNEL = "U0002", "C0001"
PLANTED = "pl4nted-word"
SLACK = """
[connectors.slack]
kind = "slack"
app_token = { env = "SLACK_APP_TOKEN" }
bot_token = { env = "SLACK_BOT_TOKEN" }
"""
COMMANDS = [
    (),
    ("run",),
    ("check",),
    ("doctor",),
    ("init",),
    ("status",),
    ("trace",),
    ("dead",),
    ("dead", "list"),
    ("dead", "show"),
    ("dead", "retry"),
    ("dead", "discard"),
    ("conversations",),
    ("conversations", "list"),
    ("conversations", "show"),
    ("conversations", "stop"),
    ("conversations", "erase"),
    ("audit",),
    ("audit", "verify"),
    ("audit", "export"),
    ("approvals",),
    ("approvals", "list"),
    ("approvals", "approve"),
    ("approvals", "deny"),
    ("budgets",),
    ("budgets", "list"),
    ("budgets", "raise"),
    ("slack",),
    ("slack", "manifest"),
    ("backup",),
    ("demo",),
    ("version",),
]


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str

    def refused(self, status: int) -> str:
        """The one line of an error, without the program's name."""
        assert self.status == status, (self.status, self.out, self.err)
        assert self.out == ""
        assert re.fullmatch(r"postroom: .+\n", self.err), self.err
        assert "Traceback" not in self.err
        return self.err.removeprefix("postroom: ").rstrip("\n")

    def fine(self) -> str:
        assert (self.status, self.err) == (0, ""), (self.status, self.out, self.err)
        return self.out


def postroom(
    here: Path, *arguments: str, environ: Mapping[str, str] | None = None, stdin: str = ""
) -> Ended:
    """Type a command in a directory; its environment is what is given and nothing of ours."""
    home = {"PATH": "/usr/bin:/bin", "HOME": str(here), "LANG": "C.UTF-8", "COLUMNS": "100"}
    ended = subprocess.run(
        [str(POSTROOM), *arguments],
        cwd=here,
        env={**home, **(environ or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


# --- without a daemon -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(tmp_path: Path, command: tuple[str, ...]) -> None:
    text = postroom(tmp_path, *command, "--help").fine()
    assert " ".join(("Usage: postroom", *command)) in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("fly",), "No such command 'fly'. See `postroom --help`."),
        (("trace",), "Missing argument"),
        (("check", "--fast"), "No such option: --fast See `postroom check --help`."),
        (("dead", "eat"), "No such command 'eat'. See `postroom dead --help`."),
        (("budgets", "raise", "daily", "0"), "greater than or equal to 0.01"),
        (("budgets", "raise", "daily", "5", "--until", "soon"), "does not match"),
    ],
)
def test_a_wrong_usage_is_one_line_that_names_the_help(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    assert told in postroom(tmp_path, *arguments).refused(2)


def test_the_module_is_the_command_too(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "daemon", "version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ended.stdout == postroom(tmp_path, "version").fine()
    assert re.search(r"^postroom +\d+\.\d+", ended.stdout)
    assert re.search(r"^claude-cli +\d+\.\d+", ended.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[daemon", r"postroom\.toml: Expected"),
        ("[daemon]\ndata_dri = 'x'\n" + SLACK, r"daemon\.data_dri: there is no such key"),
        ("[deamon]\nx = 1\n" + SLACK, r"deamon: there is no such key"),
        (SLACK + "colour = 'red'\n", r"connectors\.slack\.colour: there is no such key"),
        ("[pool]\nmax_processes = 'many'\n" + SLACK, r"pool\.max_processes: .*integer"),
        ("[budgets]\ndaily = 0\n" + SLACK, r"budgets\.daily: .*greater than 0"),
        ("[budgets.channels]\n'#talk' = 5\n" + SLACK, r"budgets\.channels: .*id of a channel"),
        ("[profiles.member]\ntools = []\nask = ['Bash']\n" + SLACK, r"profiles\.member\.ask: "),
        ("[isolation]\nlevel = 'gvisor'\n" + SLACK, r"isolation\.level: .*later version"),
        ("[ledger]\nurl = 'postgresql://x'\n" + SLACK, r"ledger\.url: .*later version"),
        ("[agent]\napi_key = 'sk-ant-1'\n" + SLACK, r"agent\.api_key: .*never in the file"),
        ("[agent]\napi_key = { env = 'A', file = 'b' }\n" + SLACK, r"agent\.api_key: .*one of"),
        ("[connectors.x]\nkind = 'telex'\n", r"connectors\.x: .*no such connector"),
        ("[daemon]\nnotify = ['mail:a@b.c']\n" + SLACK, r"daemon\.notify: .*imap"),
        ("[daemon]\nlisten = '0.0.0.0:80'\n" + SLACK, r"daemon\.listen: only a loopback"),
        ("", "connectors: there is none.*`postroom init`"),
    ],
)
def test_a_bad_configuration_names_table_and_key(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "postroom.toml").write_text(text)
    for command in ("check", "run", "status"):
        assert re.search(told, postroom(tmp_path, command).refused(78)), command


def test_a_file_that_is_not_there_and_one_that_is_no_text(tmp_path: Path) -> None:
    told = postroom(tmp_path, "check", "-c", "other.toml").refused(78)
    assert told == "other.toml: no such file; `postroom init` writes one"
    (tmp_path / "postroom.toml").write_bytes(b"\xff\xfe\x00")
    assert "postroom.toml: " in postroom(tmp_path, "check").refused(78)
    assert "postroom.toml" not in postroom(
        tmp_path, "check", environ={"POSTROOM_CONFIG": "elsewhere.toml"}
    ).refused(78)


def test_a_value_of_the_environment_goes_before_the_files_and_is_checked_as_well(
    tmp_path: Path,
) -> None:
    (tmp_path / "postroom.toml").write_text(SLACK)
    postroom(tmp_path, "check", environ={"POSTROOM__POOL__MAX_PROCESSES": "3"}).fine()
    told = postroom(tmp_path, "check", environ={"POSTROOM__POOL__MAX_PROCESSES": "0"})
    assert "pool.max_processes: " in told.refused(78)


def test_a_secret_that_is_not_set_ends_a_start_with_its_table_and_key(tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(SLACK)
    postroom(tmp_path, "check").fine()
    told = postroom(tmp_path, "run", environ={"ANTHROPIC_API_KEY": "sk-ant-x"}).refused(78)
    assert told == "connectors.slack.app_token: the environment has no SLACK_APP_TOKEN"
    assert not (tmp_path / "data").exists(), "nothing was begun"


def test_what_init_writes_is_valid_and_not_written_over(tmp_path: Path) -> None:
    text = postroom(tmp_path, "init", "--yes").fine()
    assert "next: " in text
    assert postroom(tmp_path, "check").fine() == "postroom.toml: fine\n"
    assert (tmp_path / "postroom.toml").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "postroom.toml").read_bytes()
    assert "exists already" in postroom(tmp_path, "init", "--yes").refused(2)
    assert (tmp_path / "postroom.toml").read_bytes() == before


def test_init_asks_for_a_mailbox_too(tmp_path: Path) -> None:
    answers = "n\ny\nhelp@example.org\n\n\n"
    ended = postroom(tmp_path, "init", "--path", "mail.toml", stdin=answers)
    assert ended.status == 0, ended.err
    written = (tmp_path / "mail.toml").read_text()
    assert 'host = "imap.example.org"' in written
    assert 'allow = ["*@example.org"]' in written
    postroom(tmp_path, "check", "-c", "mail.toml").fine()


def test_init_that_is_broken_off_writes_nothing(tmp_path: Path) -> None:
    assert postroom(tmp_path, "init", stdin="y\n").status == 1
    assert not (tmp_path / "postroom.toml").exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    told = postroom(tmp_path, "init", "--yes", "--path", "file/postroom.toml").refused(2)
    assert "file/postroom.toml" in told


def test_without_a_daemon_reading_says_so_and_how_to_start_it(tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(SLACK)
    for command in (("status",), ("trace", "x"), ("dead", "list"), ("conversations", "list"),
                    ("conversations", "show", "x"), ("conversations", "stop", "x"),
                    ("dead", "retry", "x"), ("approvals", "list"),
                    ("approvals", "approve", "x"), ("budgets", "list"),
                    ("budgets", "raise", "daily", "5")):  # fmt: skip
        assert "`postroom run`" in postroom(tmp_path, *command).refused(69), command
    told = postroom(tmp_path, "budgets", "raise", "weekly", "5").refused(2)
    assert told.startswith("there is no budget 'weekly'; there are per_conversation, ")
    assert "nothing to back up" in postroom(tmp_path, "backup", "copy").refused(69)
    alive = postroom(tmp_path, "status", "--check")
    assert (alive.status, alive.out, alive.err) == (1, "", "")


def test_the_manifest_is_yaml_and_nothing_else(tmp_path: Path) -> None:
    text = postroom(tmp_path, "slack", "manifest").fine()
    assert "socket_mode_enabled: true" in text
    assert text.endswith("\n")


def test_a_reader_that_goes_away_is_no_trouble(tmp_path: Path) -> None:
    piped = subprocess.run(
        ["/bin/sh", "-c", f"{POSTROOM} slack manifest | head -n 1"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert piped.stderr == ""


# --- beside a daemon ------------------------------------------------------------------------------


async def typed(daemon: DaemonProcess, *arguments: str) -> Ended:
    return Ended(*await daemon.run(*arguments))


async def test_one_message_is_read_back_and_a_copy_of_it_all_runs(
    new_daemon: NewDaemon, slack: StandInSlack, tmp_path: Path
) -> None:
    async with new_daemon() as daemon:
        said = slack.mention(BEA, CHANNEL, "[[say:here you are]]")
        await slack.wait_for_answer(said)
        await eventually(lambda: daemon.logged("delivery.sent"), "the end of the delivery")

        status = (await typed(daemon, "status")).fine()
        assert status.startswith("ready; pass; version ")
        assert json.loads((await typed(daemon, "status", "--json")).fine())["ready"] is True
        assert (await typed(daemon, "status", "--check")).fine() == ""

        story = (await typed(daemon, "trace", said.ts)).fine()
        for part in ("answered after ", "author  wrote it", "asked the agent, attempt 1",
                     "model   was asked", "agent   answered", "outside has it as"):  # fmt: skip
            assert part in story, story
        told = json.loads((await typed(daemon, "trace", said.ts, "--json")).fine())
        (message,), (turn,) = told["messages"], told["turns"]
        assert (turn["state"], turn["model_calls"] > 0) == ("done", True)
        assert (await typed(daemon, "trace", turn["id"])).fine().splitlines()[0] == (
            story.splitlines()[0]
        )
        unknown = await typed(daemon, "trace", "turn-none")
        assert "`postroom conversations list`" in unknown.refused(1)

        listed = (await typed(daemon, "conversations", "list")).fine()
        assert message["conversation"] in listed
        shown = (await typed(daemon, "conversations", "show", message["conversation"])).fine()
        assert "    here you are" in shown.splitlines()
        nothing = await typed(daemon, "conversations", "stop", message["conversation"])
        assert "nothing to stop" in nothing.refused(1)
        assert (await typed(daemon, "dead", "list")).fine() == "no dead letters\n"
        assert "nothing to retry" in (await typed(daemon, "dead", "retry", "x")).refused(1)

        copy = tmp_path / "copy"
        assert str(copy) in (await typed(daemon, "backup", str(copy))).fine()
        assert "exists already" in (await typed(daemon, "backup", str(copy))).refused(2)
        again = slack.say(BEA, CHANNEL, "[[say:after the copy]]", said.ts)
        await slack.wait_for_answer(again)

    restored = new_daemon(daemon={"data_dir": str(copy)})
    async with restored:
        offline = (await typed(restored, "trace", message["id"])).fine()
        assert offline.splitlines()[0] == story.splitlines()[0]
        later = slack.say(BEA, CHANNEL, "[[say:from the copy]]", said.ts)
        await slack.wait_for_answer(later)
    assert texts(slack, CHANNEL, said.ts)[-1] == "from the copy"


async def test_what_was_said_can_be_read_when_the_daemon_is_down_and_erased_when_it_is_up(
    new_daemon: NewDaemon, slack: StandInSlack
) -> None:
    daemon = new_daemon()
    async with daemon:
        said = slack.mention(BEA, CHANNEL, f"[[say:private]] {PLANTED}")
        await slack.wait_for_answer(said)
        await eventually(lambda: daemon.logged("delivery.sent"), "the end of the delivery")
    told = json.loads((await typed(daemon, "trace", said.ts, "--json")).fine())
    conversation = told["messages"][0]["conversation"]
    shown = json.loads(
        (await typed(daemon, "conversations", "show", conversation, "--json")).fine()
    )
    assert [one["text"] for one in shown["said"]][-1] == "private"
    assert "`postroom run`" in (await typed(daemon, "conversations", "erase", "x")).refused(69)
    assert files_with(daemon.data, PLANTED), "in the ledger, and in the transcript"
    async with daemon:
        assert "erased" in (await typed(daemon, "conversations", "erase", conversation)).fine()
        gone = await typed(daemon, "conversations", "show", conversation)
        assert "there is no conversation" in gone.refused(1)
        assert "only its key is kept" in (await typed(daemon, "trace", said.ts)).fine()
        assert files_with(daemon.data, PLANTED) == []
    assert files_with(daemon.root, PLANTED) == [], "and none in the log"


def files_with(root: Path, word: str) -> list[Path]:
    return [path for path in files_below(root) if word.encode() in path.read_bytes()]


async def test_a_hangup_takes_up_what_can_be_and_names_what_cannot(
    new_daemon: NewDaemon, model: StandInModel
) -> None:
    daemon = new_daemon(daemon={"log_level": "warning"})
    async with daemon:
        written = daemon.config.read_text()

        async def hang_up(text: str, event: str) -> list[dict[str, Any]]:
            seen = len(daemon.logged(event))
            daemon.config.write_text(text)
            os.kill(daemon.pid, signal.SIGHUP)
            await eventually(lambda: len(daemon.logged(event)) > seen, event)
            return daemon.logged(event)[seen:]

        (refused,) = await hang_up("[daemon]\nlog_levle = 'info'\n", "config.refused")
        assert "daemon.log_levle" in refused["reason"] or "connectors" in refused["reason"]
        changed = written.replace('"warning"', '"info"') + "\n[retention]\nrecords_days = 40\n"
        changed = changed.replace("max_processes = 3", "max_processes = 2")
        (taken,) = await hang_up(changed, "config.reloaded")
        assert taken["taken"] == ["daemon.log_level", "retention.records_days"]
        waits = [entry["key"] for entry in daemon.logged("config.waits_for_restart")]
        assert waits == ["pool.max_processes"]
        assert (await daemon.get("/readyz"))[0] == 200


async def test_a_parked_connector_comes_back_with_a_new_token_and_a_hangup(
    new_daemon: NewDaemon, slack: StandInSlack, tmp_path: Path
) -> None:
    token = tmp_path / "bot-token"
    token.write_text("xoxb-refused")
    daemon = new_daemon(connectors__slack={"bot_token": {"file": str(token)}})
    await daemon.start(ready=False)
    await daemon.until("/readyz", lambda _, text: "parked" in text)
    token.write_text(slack.bot_token)
    os.kill(daemon.pid, signal.SIGHUP)
    await daemon.until_ready()
    said = slack.mention(BEA, CHANNEL, "[[say:back again]]")
    await slack.wait_for_answer(said)
    assert slack.bot_token not in daemon.log.read_text()
