"""What happens in a run: who says what, what goes wrong, when the daemon dies. Pure, of a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Place = Literal["channel", "group", "direct", "mail"]
Trouble = Literal[
    "", "twice", "again", "ack lost", "edited", "two gestures", "post lost", "limited"
]
Aim = Literal[
    "any", "start", "recovered", "acked", "registered", "claimed", "asked", "answered",
    "finished", "before post", "after post", "sent", "delivered", "mail refused", "mail taken",
]  # fmt: skip

AT_ONCE = 7  # conversations that people write in at the same time
PAUSE_SECONDS = (0.0, 1.2)
WORDS = ("the", "parcel", "for", "third", "floor", "is", "still", "at", "desk", "and", "signed")


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
    trouble: Trouble = ""
    later: float = 0.0


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the daemon: what is said in it, and how it ends.

    The kill comes `wait` seconds in, and at the next event that it aims at, and `jitter` seconds
    after that. `cli_after`: a CLI process is killed so many seconds in, too (None: none is).
    """

    says: tuple[Say, ...]
    aim: Aim
    wait: float
    jitter: float
    cli_after: float | None = None
    cut_after: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    lives: tuple[Life, ...]

    @property
    def messages(self) -> int:
        return sum(len(life.says) for life in self.lives)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is. `life` is the mean length of a life in seconds; what comes again, or is
    edited, does so up to `later` seconds after it was said. `mail` is its share of conversations,
    beside the eleven of Slack; 0: there is no mail.
    """

    kills: int
    messages: int
    life: float = 6.0
    channels: int = 8
    people: int = 8
    mail: int = 0
    later: float = 15.0
    aims: tuple[Aim, ...] = ()  # none given: the usual mixture


def make(size: Size, seed: int) -> Plan:
    """The same plan for the same size and seed."""
    rng = random.Random(seed)
    says = _says(size, rng)
    lives = []
    for number in range(size.kills):
        begin = number * len(says) // size.kills
        end = (number + 1) * len(says) // size.kills
        lives.append(_life(tuple(says[begin:end]), size, rng))
    return Plan(seed, tuple(lives))


def _life(says: tuple[Say, ...], size: Size, rng: random.Random) -> Life:
    aim = rng.choice(size.aims) if size.aims else _aim(size, rng)
    wait = rng.uniform(0.2, 2 * size.life) if aim == "any" else rng.uniform(0.0, size.life)
    if aim in ("start", "recovered"):
        wait = 0.0
    late = {"start": 1.5, "asked": 0.4, "answered": 0.3, "delivered": 0.3}.get(aim, 0.05)
    jitter = rng.choice((0.0, rng.uniform(0.0, late), rng.uniform(0.0, late)))
    return Life(
        says,
        aim,
        wait,
        jitter,
        cli_after=rng.uniform(1.0, size.life) if rng.random() < 0.12 else None,
        cut_after=rng.uniform(1.0, size.life) if rng.random() < 0.08 else None,
    )


def _aim(size: Size, rng: random.Random) -> Aim:
    aims: tuple[Aim, ...] = (
        "start", "recovered", "acked", "registered", "claimed", "asked", "answered", "finished",
        "before post", "after post", "sent",
    )  # fmt: skip
    if size.mail:
        aims = (*aims, "delivered", "mail taken", "mail refused")
    return "any" if rng.random() < 0.5 else rng.choice(aims)


# --- what is said ---------------------------------------------------------------------------------


def _says(size: Size, rng: random.Random) -> list[Say]:
    """Several conversations at once, in bursts; each is open for a while and then rests."""
    says: list[Say] = []
    talks = 0
    open_: list[tuple[Talk, int]] = []  # with how many messages are still to come
    current: tuple[Talk, int] | None = None
    while len(says) < size.messages:
        if current is None or rng.random() < 0.65:
            while len(open_) < AT_ONCE:
                open_.append((_talk(talks, size, rng), 0))
                talks += 1
            current = rng.choice(open_)
            pause = rng.uniform(*PAUSE_SECONDS)
        else:  # a burst: the same people go on before they are answered
            pause = rng.uniform(0.0, 0.15)
        talk, left = current
        opens = left == 0
        open_.remove(current)
        left = _length(talk, rng) if opens else left - 1
        says.append(_say(len(says), talk, pause, size, rng, opens=opens))
        current = (talk, left) if left else None
        if current:
            open_.append(current)
        if rng.random() < 0.04 and len(says) < size.messages:
            says.append(_unwanted(len(says), talk, size, rng))
    return says


def _talk(number: int, size: Size, rng: random.Random) -> Talk:
    places: tuple[Place, ...] = ("channel", "group", "direct", "mail")
    place = rng.choices(places, (6, 1, 4, size.mail))[0]
    people = rng.sample(range(size.people), rng.choice((1, 1, 2, 3)))
    return Talk(number, place, rng.randrange(size.channels), tuple(people))


def _length(talk: Talk, rng: random.Random) -> int:
    """How many messages follow the first."""
    if talk.place == "direct":
        return rng.choice((0, 0, 1, 3, 10))
    return rng.randrange(3, 40)


def _say(
    number: int, talk: Talk, pause: float, size: Size, rng: random.Random, *, opens: bool
) -> Say:
    text, marks = _text(f"mark-{number:05d}", rng)
    trouble = _trouble(rng)
    if talk.place == "mail" and trouble not in ("", "again"):
        trouble = "twice"
    if trouble == "two gestures" and opens:  # they would be two conversations
        trouble = "twice"
    return Say(
        talk=talk,
        person=rng.choice(talk.people),
        text=text,
        marks=marks,
        after=pause,
        opens=opens,
        mention=talk.place in ("channel", "group") and (opens or rng.random() < 0.2),
        trouble=trouble,
        later=rng.uniform(0.5, size.later),
    )


def _unwanted(number: int, talk: Talk, size: Size, rng: random.Random) -> Say:
    """Chatter that is not for the bot, a guest's question, a forged mail: heard, never answered."""
    place: Place = "mail" if talk.place == "mail" else "channel"
    beside = Talk(talk.number, place, rng.randrange(size.channels), talk.people)
    guest = rng.random() < 0.3
    mark = f"mark-{number:05d}"
    return Say(
        talk=beside,
        person=rng.choice(talk.people),
        text=f"{mark} [[echo]]",
        marks=(mark,),
        after=0.05,
        opens=True,
        mention=guest,
        wanted=False,
        guest=guest,
    )


def _text(mark: str, rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """Most are short; some take a tool or time; a few are so long that the answer is two posts."""
    kind = rng.random()
    if kind < 0.02:
        filler = " ".join(rng.choice(WORDS) for _ in range(1300))
        marks = (f"{mark}a", f"{mark}b", f"{mark}c")
        return f"{marks[0]} [[echo]] {filler}\n\n{marks[1]} {filler}\n\n{marks[2]}", marks
    if kind < 0.08:
        return f'{mark} [[tool:Bash {{"command": "sleep 0.3; echo done"}}]][[echo]]', (mark,)
    if kind < 0.18:
        return f"{mark} [[slow:{rng.uniform(0.2, 1.0):.1f}]][[echo]]", (mark,)
    return f"{mark} [[echo]] {' '.join(rng.choice(WORDS) for _ in range(rng.randrange(12)))}", (
        mark,
    )


def _trouble(rng: random.Random) -> Trouble:
    troubles: tuple[Trouble, ...] = (
        "twice", "again", "ack lost", "edited", "two gestures", "post lost", "limited"
    )  # fmt: skip
    chosen: Trouble = rng.choices(troubles, (6, 6, 5, 3, 2, 3, 1))[0]
    return chosen if rng.random() < 0.26 else ""
