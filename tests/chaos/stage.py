"""The outside of a run: stand-ins that outlive every daemon, and people who write to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from daemon.demo.model import StandInModel
from daemon.demo.process import free_port, write_config
from daemon.demo.script import Reply, directed, read_ask
from daemon.demo.slack import Delivering, Said, StandInSlack
from daemon.demo.slack.workspace import Channel, Person
from tests.chaos.mails import Mails, letter, mail_on_stage
from tests.chaos.plan import Say, Size, Talk
from tests.chaos.victim import Victim

KEY = "sk-ant-stand-in-key-of-the-chaos-run"
OPERATORS = "C9000"  # where the daemon tells people what needs them
COMMAND = (str(Path(sys.executable).with_name("postroom")),)
TREE = Path(__file__).parents[2]  # the daemon of the tree that this file stands in
LOAD = (
    "select count(*) from inbox where state in ('waiting', 'unidentified') "
    "or turn in (select id from turn where state in ('queued', 'running'))"
)
OUTBOX = "select count(*) from outbox where state in ('staged', 'pending', 'sending')"
MARK = re.compile(r"mark-\d{5}[a-z]?")
DRAIN_SECONDS = 20.0
API_ERROR = 403  # the CLI tries none of these again: the turn ends with it at once
# As Slack's, but quicker: a run is not to wait a minute for each event that a death left unacked.
DELIVERING = Delivering(
    ack_timeout=1.0,
    retry_delays=(0.0, 2.0, 4.0, *(8.0,) * 100),
    hold_unconnected=True,
)


class Witness:
    """The script of the model: it does as it is told, and writes down each prompt that comes again
    although its answer stands before it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, body: Mapping[str, Any]) -> Reply:
        asked = MARK.findall(read_ask(body).prompt)
        if asked and set(asked) & set(MARK.findall(_said(body))):
            with self._file.open("a") as file:
                file.write(json.dumps({"marks": asked}) + "\n")
        return directed(body)


def _said(body: Mapping[str, Any]) -> str:
    """All that the model has answered in this conversation, as the request tells it."""
    said: list[str] = []
    for message in body.get("messages") or ():
        content = message.get("content")
        if message.get("role") == "assistant":
            blocks = content if isinstance(content, list) else [{"text": content}]
            said += [str(block.get("text", "")) for block in blocks]
    return "\n".join(said)


@dataclass
class Stage:
    """`sent` is what a checker reads of what went in; `waiting` are marks not answered yet."""

    root: Path
    slack: StandInSlack
    model: StandInModel
    victim: Victim
    sent: Path
    waiting: set[str] = field(default_factory=set)
    roots: dict[int, str] = field(default_factory=dict)
    chores: set[asyncio.Task[None]] = field(default_factory=set)
    mails: Mails | None = None
    _posts: int = 0
    _mails: int = 0
    _delivered: int = 0

    def backlog(self) -> int:
        """How many messages wait for their answer, by what people see."""
        for entry in self.slack.journal.entries[self._posts :]:
            answers = entry["kind"] == "post" and entry["by"] == "chat.postMessage"
            if answers and entry["channel"] != OPERATORS:
                self.waiting.difference_update(MARK.findall(entry["text"]))
        self._posts = len(self.slack.journal.entries)
        if self.mails is not None:
            for text in self.mails.sink.mails[self._mails :]:
                self.waiting.difference_update(MARK.findall(text))
            self._mails = len(self.mails.sink.mails)
        return len(self.waiting)

    def unheard(self) -> int:
        """How many of Slack's events have not been acknowledged yet."""
        events = {entry["event_id"] for entry in self.slack.journal.of("event")}
        given_up = {entry["event_id"] for entry in self.slack.journal.of("gave_up")}
        return len(events - given_up - self.slack.deliveries.acked.keys())

    def load(self) -> int:
        """How many messages wait or are worked on, by the ledger: no part of any verdict."""
        return int(read_ledger(self.root / "data", LOAD))

    def undone(self) -> int:
        """The same with all that the outbox still holds: how much the daemon has to do."""
        return self.load() + int(read_ledger(self.root / "data", OUTBOX))

    async def stop(self) -> int:
        """Stop the daemon with SIGTERM; its exit status. When it was told and when it was gone is
        written down, as its drain is judged by that.
        """
        told = time.time()
        status = await self.victim.stop()
        line = {"told": told, "gone": time.time(), "drain": DRAIN_SECONDS, "status": status}
        with (self.root / "stops.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        return status

    async def write_mailbox(self) -> None:
        """What stands on the mails in the mailbox now, for the checker."""
        if self.mails is not None:
            await asyncio.to_thread(self.mails.write_mailbox, self.root / "mailbox.jsonl")

    # --- what people do

    async def speak(self, say: Say) -> None:
        """Say it, with what goes wrong around it."""
        if say.wanted:
            self.waiting.update(say.marks)
        if say.trouble == "model away":
            self.model.fail(API_ERROR, text=say.marks[0], tool_results=1 if say.tool else None)
        if say.talk.place == "mail":
            await self._write(say)
        else:
            self._speak(say)

    def _speak(self, say: Say) -> None:
        slack = self.slack
        if say.trouble == "twice":
            slack.duplicate_next(1)
        elif say.trouble == "ack lost":
            slack.drop_acks(1)
        elif say.trouble == "post lost":
            slack.lose_answer("chat.postMessage")
        elif say.trouble == "limited":
            slack.rate_limit("chat.postMessage", retry_after=1)
        gesture = f"gesture-{say.marks[0]}" if say.trouble == "two gestures" else None
        said = [self._say(say, gesture)]
        if gesture:
            said.append(self._say(say, gesture))
        if say.opens and say.wanted:
            self.roots[say.talk.number] = said[0].root
        self._record(say, channel=said[0].channel, thread=said[0].root, ts=[s.ts for s in said])
        if say.trouble == "again":
            self._spawn(self._again(said[0], say.later))
        elif say.trouble == "edited":
            self._spawn(self._edit(said[0], say.later))

    def _say(self, say: Say, gesture: str | None) -> Said:
        talk = say.talk
        user = guest() if say.guest else person(say.person)
        root = None if say.opens else self.roots[talk.number]
        if talk.place == "direct":
            user = person(talk.people[0])
            return self.slack.dm(user, say.text, root, client_msg_id=gesture)
        speak = self.slack.mention if say.mention else self.slack.say
        return speak(user, place(talk), say.text, root, client_msg_id=gesture)

    async def _again(self, said: Said, later: float) -> None:
        """Slack brings an event that it brought before."""
        await asyncio.sleep(later)
        for entry in self.slack.journal.of("event"):
            if entry["event_id"] in said.events:
                self.slack.deliveries.publish(entry["payload"])

    async def _edit(self, said: Said, later: float) -> None:
        await asyncio.sleep(later)
        self.slack.edit(said.channel, said.ts, f"{said.text} (and thank you)")

    async def _write(self, say: Say) -> None:
        """A mail; the next one is written only when this one lies in the mailbox."""
        assert self.mails is not None, "the plan is one with mail"
        message_id = f"<{say.marks[0]}@example.com>"
        root = None if say.opens else self.roots[say.talk.number]
        if say.opens and say.wanted:
            self.roots[say.talk.number] = message_id
        mail = letter(
            sender=f"person{say.person}@example.com",
            text=say.text,
            message_id=message_id,
            root=root,
            proven=say.wanted,
        )
        self._record(say, mail=True, thread=root or message_id)
        await self.mails.deliver(mail)
        if say.trouble == "twice":
            await self.mails.deliver(mail)
        elif say.trouble == "again":
            self._spawn(self._deliver_later(mail, say.later))

    async def _deliver_later(self, mail: EmailMessage, later: float) -> None:
        assert self.mails is not None, "a mail was written"
        await asyncio.sleep(later)
        await self.mails.deliver(mail)

    def _record(self, say: Say, **where: Any) -> None:
        self._delivered += 1
        line = {
            "n": self._delivered,
            "at": time.time(),
            "marks": say.marks,
            "wanted": say.wanted,
            "label": say.label,
            "trouble": say.trouble,
            **where,
        }
        with self.sent.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _spawn(self, chore: Any) -> None:
        task = asyncio.create_task(chore)
        self.chores.add(task)
        task.add_done_callback(self.chores.discard)


def person(number: int) -> str:
    return f"U1{number:03d}"


def guest() -> str:
    return "U1999"


def place(talk: Talk) -> str:
    return f"{'G' if talk.place == 'group' else 'C'}1{talk.channel:03d}"


@asynccontextmanager
async def on_stage(
    root: Path, size: Size, seed: int, command: tuple[str, ...] = COMMAND
) -> AsyncIterator[Stage]:
    """The stand-ins in this process, which nobody kills; the daemon is not started yet."""
    (root / "home").mkdir(parents=True)
    slack = StandInSlack(journal=root / "slack.jsonl", delivering=DELIVERING, seed=seed)
    model = StandInModel(
        Witness(root / "again.jsonl"), api_key=KEY, journal_file=root / "model.jsonl", bodies=False
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(slack)
        await stack.enter_async_context(model)
        mails = None
        if size.mail:
            mails = await stack.enter_async_context(mail_on_stage(root / "mails.jsonl"))
        _furnish(slack, size)
        victim = _victim(root, slack, model, mails, command)
        stage = Stage(root, slack, model, victim, root / "sent.jsonl", mails=mails)
        try:
            yield stage
        finally:
            if victim.running:
                await victim.kill()
            for chore in stage.chores:
                chore.cancel()
            victim.close()


def _victim(
    root: Path,
    slack: StandInSlack,
    model: StandInModel,
    mails: Mails | None,
    command: tuple[str, ...],
) -> Victim:
    config, port = root / "postroom.toml", free_port()
    write_config(config, _tables(root, port, slack, model, mails))
    environ = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(root / "home"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(TREE),
        "ANTHROPIC_API_KEY": KEY,
        "SLACK_APP_TOKEN": slack.app_token,
        "SLACK_BOT_TOKEN": slack.bot_token,
        **(mails.environ() if mails else {}),
    }
    return Victim(
        command,
        ("run", "-c", str(config)),
        log=root / "daemon.log",
        environ=environ,
        cwd=root,
        port=port,
        connectors=2 if mails else 1,
    )


def read_ledger(data_dir: Path, query: str) -> Any:
    """One value out of the ledger, as it stands on disk. Raises sqlite3.Error, ValueError."""
    (ledger,) = data_dir.glob("*.db")
    with contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchone()[0]


def _furnish(slack: StandInSlack, size: Size) -> None:
    workspace = slack.workspace
    everybody = {workspace.bot_user}
    for number in range(size.people):
        user = person(number)
        workspace.people[user] = Person(user, f"person{number}", f"Person {number}")
        everybody.add(user)
    workspace.people[guest()] = Person(guest(), "guest", "A Guest", "guest")
    for number in range(size.channels):
        channel = Channel(f"C1{number:03d}", f"room-{number}", members=everybody | {guest()})
        group = Channel(f"G1{number:03d}", f"mpdm-{number}", "mpim", members=set(everybody))
        workspace.channels |= {channel.id: channel, group.id: group}
    workspace.channels[OPERATORS] = Channel(OPERATORS, "operators", members=set(everybody))


def _tables(
    root: Path, port: int, slack: StandInSlack, model: StandInModel, mails: Mails | None
) -> Mapping[str, Mapping[str, Any]]:
    support = {"connectors.support": mails.table()} if mails else {}
    return {
        "daemon": {
            "data_dir": str(root / "data"),
            "listen": f"127.0.0.1:{port}",
            "notify": [f"slack:{OPERATORS}"],
            "drain_seconds": DRAIN_SECONDS,
            "log_format": "json",
        },
        "agent": {"api_url": model.url, "model": "claude-sonnet-5"},
        "pool": {"max_processes": 4, "spare_processes": 1},
        "connectors.slack": {
            "kind": "slack",
            "api_url": slack.api_url,
            "app_token": {"env": "SLACK_APP_TOKEN"},
            "bot_token": {"env": "SLACK_BOT_TOKEN"},
        },
        **support,
    }
