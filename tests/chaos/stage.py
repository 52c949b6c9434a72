"""The outside of a run: stand-ins that outlive every daemon, and people who write to it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.demo.model import StandInModel
from daemon.demo.process import free_port, write_config
from daemon.demo.script import directed
from daemon.demo.slack import Delivering, Said, StandInSlack
from daemon.demo.slack.workspace import Channel, Person
from tests.chaos.plan import Say, Size, Talk
from tests.chaos.victim import Victim

KEY = "sk-ant-stand-in-key-of-the-chaos-run"
OPERATORS = "C9000"  # where the daemon tells people what needs them
COMMAND = (str(Path(sys.executable).with_name("postroom")),)
MARK = re.compile(r"mark-\d{5}[a-z]?")
# As Slack's, but quicker: a run is not to wait a minute for each event that a death left unacked.
DELIVERING = Delivering(
    ack_timeout=1.0,
    retry_delays=(0.0, 2.0, 4.0, *(8.0,) * 100),
    hold_unconnected=True,
)


@dataclass
class Stage:
    """`sent` is what a checker reads of what went in; `waiting` are marks not answered yet."""

    root: Path
    slack: StandInSlack
    model: StandInModel
    victim: Victim
    sent: Path
    waiting: set[str] = field(default_factory=set)
    roots: dict[int, Said] = field(default_factory=dict)
    chores: set[asyncio.Task[None]] = field(default_factory=set)
    _read: int = 0

    def backlog(self) -> int:
        """How many messages wait for their answer, by what people see."""
        for entry in self.slack.journal.entries[self._read :]:
            if entry["kind"] == "post" and entry["by"] == "chat.postMessage":
                self.waiting.difference_update(MARK.findall(entry["text"]))
        self._read = len(self.slack.journal.entries)
        return len(self.waiting)

    # --- what people do

    def speak(self, say: Say) -> None:
        """Say it, with what goes wrong around it."""
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
            self.roots[say.talk.number] = said[0]
        if say.wanted:
            self.waiting.update(say.marks)
        self._record(say, said)
        if say.trouble == "again":
            self._spawn(self._again(said[0], say.later))
        elif say.trouble == "edited":
            self._spawn(self._edit(said[0], say.later))

    def _say(self, say: Say, gesture: str | None) -> Said:
        talk = say.talk
        user = guest() if say.guest else person(say.person)
        root = None if say.opens else self.roots[talk.number].root
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

    def _record(self, say: Say, said: list[Said]) -> None:
        line = {
            "marks": say.marks,
            "channel": said[0].channel,
            "thread": said[0].root,
            "ts": [one.ts for one in said],
            "wanted": say.wanted,
            "trouble": say.trouble,
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
    """Both stand-ins in this process, which nobody kills; the daemon is not started yet."""
    home = root / "home"
    home.mkdir(parents=True)
    slack = StandInSlack(journal=root / "slack.jsonl", delivering=DELIVERING, seed=seed)
    model = StandInModel(directed, api_key=KEY, journal_file=root / "model.jsonl", bodies=False)
    async with slack, model:
        _furnish(slack, size)
        config = root / "postroom.toml"
        write_config(config, _tables(root, slack, model))
        environ = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "ANTHROPIC_API_KEY": KEY,
            "SLACK_APP_TOKEN": slack.app_token,
            "SLACK_BOT_TOKEN": slack.bot_token,
        }
        victim = Victim(
            (*command, "run", "-c", str(config)),
            log=root / "daemon.log",
            environ=environ,
            cwd=root,
        )
        stage = Stage(root, slack, model, victim, root / "sent.jsonl")
        try:
            yield stage
        finally:
            if victim.running:
                await victim.kill()
            for chore in stage.chores:
                chore.cancel()
            victim.close()


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
    root: Path, slack: StandInSlack, model: StandInModel
) -> Mapping[str, Mapping[str, Any]]:
    return {
        "daemon": {
            "data_dir": str(root / "data"),
            "listen": f"127.0.0.1:{free_port()}",
            "notify": [f"slack:{OPERATORS}"],
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
    }
