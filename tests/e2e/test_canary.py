"""Planted secrets, searched byte by byte in all that agents could read, that was logged, that lies
in the data directory, and that a page, a metric or a command shows: found nowhere.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import aiohttp
import psutil
import pytest

from daemon.demo.mail import StandInMail
from daemon.demo.model import StandInModel
from daemon.demo.process import DaemonProcess
from daemon.demo.slack import StandInSlack
from daemon.gateway.seats import PREFIX
from daemon.guard import PROBES
from tests.e2e.conftest import MODEL_KEY, NewDaemon
from tests.e2e.looking import agents_of, files_below

pytestmark = pytest.mark.e2e

BEA, SUPPORT, WRITER = "U0002", "support@example.test", "ann@example.test"
API_TOKEN = "c4nary/api+token of the tests"
NOTES_KEY = "c4nary/key of an mcp+server"
NOTES = Path(__file__).parents[1] / "mcp_standin.py"
COMMANDS = (("status", "--json"), ("doctor", "--json"), ("dead", "list"), ("conversations", "list"),
            ("audit", "export", "--names"), ("audit", "verify"))  # fmt: skip


class GuardedMail(StandInMail):
    password = "c4nary mail/pass+word"


@pytest.fixture
async def mail() -> AsyncIterator[GuardedMail]:
    async with GuardedMail([SUPPORT]) as standing:
        yield standing


def forms(secret: str) -> set[bytes]:
    """How a secret may stand somewhere: as it is, in an URL, within base64."""
    found = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    for before in range(3):
        digits = base64.b64encode(b"\0" * before + secret.encode()).decode()
        found.add(digits[4 if before else 0 : -4])
    return {form.encode() for form in found}


def test_the_search_finds_what_is_there() -> None:
    for text in ("x c4nary/k?y x", quote("c4nary/k?y", safe="")):
        assert any(form in text.encode() for form in forms("c4nary/k?y"))
    basic = base64.b64encode(b"\0somebody\0c4nary/k?y of a mailbox")
    assert any(form in basic for form in forms("c4nary/k?y of a mailbox"))


async def test_no_planted_secret_is_found_anywhere(
    new_daemon: NewDaemon, slack: StandInSlack, mail: GuardedMail, model: StandInModel
) -> None:
    planted = (MODEL_KEY, slack.app_token, slack.bot_token, mail.password, API_TOKEN, NOTES_KEY)
    daemon = new_daemon(
        {"IMAP_PASSWORD": mail.password, "API_TOKEN": API_TOKEN, "NOTES_KEY": NOTES_KEY},
        daemon={"log_level": "debug", "api_token": {"env": "API_TOKEN"}},
        connectors__support=mailbox(mail),
        mcp__notes={
            "command": [sys.executable, str(NOTES)],
            "env": {"NOTES_KEY": {"env": "NOTES_KEY"}},
            "only_read": {"tell": "it tells what it must not"},
        },
        profiles__member={"tools": ["Read", "Bash", "mcp__notes__tell"]},
    )
    daemon.environ["POSTROOM__DAEMON__LISTEN"] = f"0.0.0.0:{daemon.port}"
    seen: dict[str, bytes] = {}
    async with daemon:
        said = slack.dm(BEA, f"[[tool:Bash {json.dumps({'command': loot(daemon)})}]]")
        told = slack.dm(BEA, "[[tool:mcp__notes__tell {}]]")
        assert (await slack.wait_for_answer(told, within=60)).text.strip() == "it is [redacted]"
        letter = await mail.write(WRITER, SUPPORT, "Hours", "When are you open? [[say:at nine]]")
        assert (await slack.wait_for_answer(said, within=60)).text.strip() == "looked"
        await mail.answer_to(letter, within=60)

        assert capability_tokens(daemon) == {("processes", 0o600)}, "agents are at work"
        seen["what agents' processes hold"] = environments(agents_of(daemon, "claude"))
        seen |= await pages(daemon)
        for command in (*COMMANDS, ("trace", said.ts), ("trace", letter.message_id)):
            _, out, err = await daemon.run(*command)
            seen[" ".join(command)] = (out + err).encode()
    assert seen["audit verify"].startswith(b"the audit is whole"), seen["audit verify"]
    assert b'"names":{"' in seen["audit export --names"]
    for path in (daemon.log, *files_below(daemon.data)):
        seen[str(path.relative_to(daemon.root))] = path.read_bytes()
    (looted,) = (name for name in seen if name.endswith("loot.txt"))
    assert b"ANTHROPIC_API_KEY=" in seen[looted], "it did look"
    assert capability_tokens(daemon) == set(), "no token of any kind outlives the daemon"
    seen["what the model was told"] = json.dumps([call.body for call in model.journal]).encode()
    seen["what was posted"] = json.dumps([post.text for post in slack.posts()]).encode()
    found = [
        (where, secret)
        for where, content in seen.items()
        for secret in planted
        if any(form in content for form in forms(secret))
    ]
    assert found == []


def mailbox(mail: GuardedMail) -> dict[str, object]:
    here = {"host": "127.0.0.1", "security": "plain"}
    password = {"user": SUPPORT, "password": {"env": "IMAP_PASSWORD"}}
    return {
        "kind": "imap",
        "address": SUPPORT,
        "imap": {**here, **password, "port": mail.imap_port},
        "smtp": {**here, "port": mail.smtp_port},
        "mode": "reply",
        "allow": ["*@example.test"],
        "authserv_id": mail.authserv_id,
    }


def loot(daemon: DaemonProcess) -> str:
    """All that an agent's shell may think of."""
    look = (
        "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/maps; "
        f"cat {daemon.config} {daemon.log} {daemon.data}/* {daemon.data}/*/* "
        f"{daemon.data}/processes/*/*; "
        f"grep -rs -e sk-ant -e xox -e xapp -e c4nary {daemon.root} $HOME $TMPDIR /dev/shm /run"
    )
    return f"bash -c '{look}' > loot.txt 2>&1; echo looked"


def capability_tokens(daemon: DaemonProcess) -> set[tuple[str, int]]:
    """The folder and the mode of each file of the data directory that holds some; what an agent
    copied is its own affair.
    """
    found = set()
    for path in files_below(daemon.data):
        with contextlib.suppress(FileNotFoundError):  # agents come and go meanwhile
            if path.name != "loot.txt" and PREFIX.encode() in path.read_bytes():
                found.add((path.parents[1].name, path.stat().st_mode & 0o777))
    return found


def environments(agents: list[psutil.Process]) -> bytes:
    """Those that this user may read: another user's are not shown to whoever may not trace it."""
    assert agents
    held = []
    for process in agents:
        with contextlib.suppress(psutil.Error):
            held.append(process.environ())
    return json.dumps(held).encode()


async def pages(daemon: DaemonProcess) -> dict[str, bytes]:
    """Every page that is read, with its headers: as a stranger gets it, and with the token."""
    told: dict[str, bytes] = {}
    shown = {"Authorization": f"Bearer {API_TOKEN}"}
    here = f"http://127.0.0.1:{daemon.port}"
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{here}/api/v1/openapi.json", headers=shown) as answer:
            served = (await answer.json())["paths"]
        paths = [path for path, ways in served.items() if "get" in ways and "{" not in path]
        assert set(paths) > PROBES
        for path in paths:
            for who, headers in (("stranger", {}), ("operator", shown)):
                async with session.get(here + path, headers=headers) as answer:
                    head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
                    told[f"{path} for a {who}"] = head.encode() + await answer.read()
                    answered = who == "operator" or path in PROBES
                    assert answer.status in ({200, 503} if answered else {401}), (path, who)
    return told
