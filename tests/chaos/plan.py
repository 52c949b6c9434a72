"""A run as data: who says what, what goes wrong, how each life of the daemon ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = Literal["channel", "group", "direct", "mail"]
Trouble = Literal[
    "", "twice", "again", "ack lost", "edited", "two gestures", "post lost", "limited",
    "model away",
]  # fmt: skip
Aim = Literal[
    "any", "start", "recovered", "acked", "registered", "claimed", "asked", "answered",
    "tool done", "model away", "finished", "before post", "after post", "sent", "draining",
    "delivered", "mail refused", "mail taken", "point", "stop",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation to be: its first message opens it, the others follow in its thread."""

    number: int
    place: Place
    channel: int
    people: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """One message. `marks` stand in its text, and nowhere else; `after` is seconds after the one
    before. `wanted` False: nobody is to answer it (chatter, a guest's question, a forged mail).
    `label`: its agent is to put this label on the mail ("": on none).
    """

    talk: Talk
    person: int
    text: str
    marks: tuple[str, ...]
    after: float
    opens: bool = False
    mention: bool = False
    wanted: bool = True
    guest: bool = False
    tool: bool = False
    label: str = ""
    trouble: Trouble = ""
    later: float = 0.0


@dataclass(frozen=True, slots=True)
class Fuse:
    """The daemon of this life is a build that dies by itself, at a named point (points.py), when
    it comes there after so many `passes`.
    """

    point: str
    passes: int


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the daemon: what is said in it, and how it ends.

    The end comes `wait` seconds in, and at the next event that it aims at, and `jitter` seconds
    after that. The aim "stop" is no kill: it is told to stop, and drains. `cli_after`: a CLI
    process is killed so many seconds in, too (None: none is); `cut_after`: Slack's connections are
    cut. `fuse` belongs to the aim "point".
    """

    says: tuple[Say, ...]
    aim: Aim
    wait: float = 0.0
    jitter: float = 0.0
    cli_after: float | None = None
    cut_after: float | None = None
    fuse: Fuse | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    lives: tuple[Life, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is: `messages` are those for the bot, the chatter comes on top; `stops` are
    lives that end by SIGTERM, on top of the `kills`.

    `life` is the mean length of a life in seconds; what comes again, or is edited, does so up to
    `later` seconds after it was said. `mail` is its share of conversations, beside the eleven of
    Slack; 0: there is no mail. `tools` and `away` are shares of messages: those that take a tool,
    and those on which the model's API first answers with an error. A tool within the walls works
    for `lasting` seconds. People write in `at_once` conversations at the same time.
    """

    kills: int
    messages: int
    stops: int = 0
    life: float = 6.0
    channels: int = 8
    people: int = 8
    at_once: int = 7
    mail: int = 0
    tools: float = 0.08
    lasting: float = 0.3
    away: float = 0.01
    later: float = 15.0
    aims: tuple[Aim, ...] = ()  # none given: the usual mixture
    fuses: tuple[Fuse, ...] = ()  # given: one a kill, in this order, and no other aims
