"""Makes the plan of a run out of its size and a seed. Pure: the same plan for the same two."""

from __future__ import annotations

import json
import random

from tests.chaos.plan import Aim, Fuse, Life, Place, Plan, Say, Size, Talk, Trouble

PAUSE_SECONDS = (0.0, 1.2)
LABEL_TOOL = "mcp__postroom__label"
WORDS = ("the", "parcel", "for", "third", "floor", "is", "still", "at", "desk", "and", "signed")


def make(size: Size, seed: int) -> Plan:
    rng = random.Random(seed)
    says = _says(size, rng)
    ends: list[Aim] = ["point" if size.fuses else "any"] * size.kills
    for _ in range(size.stops):
        ends.insert(rng.randrange(len(ends) + 1), "stop")
    fuses = iter(size.fuses)
    lives = []
    for number, end in enumerate(ends):
        part = slice(number * len(says) // len(ends), (number + 1) * len(says) // len(ends))
        fuse = next(fuses) if end == "point" else None
        lives.append(_life(tuple(says[part]), end, fuse, size, rng))
    return Plan(seed, tuple(lives))


def _life(
    says: tuple[Say, ...], end: Aim, fuse: Fuse | None, size: Size, rng: random.Random
) -> Life:
    if fuse is not None:
        return Life(says, "point", fuse=fuse)
    aim: Aim = end if end == "stop" else rng.choice(size.aims) if size.aims else _aim(size, rng)
    at_once = aim in ("any", "stop", "draining")
    wait = rng.uniform(0.2, 2 * size.life) if at_once else rng.uniform(0.0, size.life)
    if aim in ("start", "recovered"):
        wait = 0.0
    late = {
        "start": 1.5, "asked": 0.4, "answered": 0.3, "delivered": 0.3, "tool done": 0.3,
        "model away": 0.3, "draining": 1.0,
    }.get(aim, 0.05)  # fmt: skip
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
        "start", "recovered", "acked", "registered", "claimed", "asked", "answered", "tool done",
        "model away", "finished", "before post", "after post", "sent", "draining",
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
    wanted = 0
    while wanted < size.messages:
        if current is None or rng.random() < 0.65:
            while len(open_) < size.at_once:
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
        wanted += 1
        current = (talk, left) if left else None
        if current:
            open_.append(current)
        if rng.random() < 0.04:
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
    mark = f"mark-{number:05d}"
    tool = rng.random() < size.tools
    text, marks = _work(talk, mark, size) if tool else _text(mark, rng)
    trouble: Trouble = "model away" if rng.random() < size.away else _trouble(rng)
    if talk.place == "mail" and trouble not in ("", "again", "model away"):
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
        tool=tool,
        label=_label(mark) if tool and talk.place == "mail" else "",
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


def _work(talk: Talk, mark: str, size: Size) -> tuple[str, tuple[str, ...]]:
    """One that takes a tool: within the walls, or one of ours, whose effect is seen outside."""
    name, call = "Bash", {"command": f"sleep {size.lasting}; echo done"}
    if talk.place == "mail":
        name, call = LABEL_TOOL, {"label": _label(mark)}
    return f"{mark} [[tool:{name} {json.dumps(call)}]][[echo]]", (mark,)


def _label(mark: str) -> str:
    """Of its own for each mail, and no mark."""
    return mark.replace("mark", "seen")


def _text(mark: str, rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """Most are short; some take time; a few are so long that the answer is two posts."""
    kind = rng.random()
    if kind < 0.02:
        filler = " ".join(rng.choice(WORDS) for _ in range(1300))
        marks = (f"{mark}a", f"{mark}b", f"{mark}c")
        return f"{marks[0]} [[echo]] {filler}\n\n{marks[1]} {filler}\n\n{marks[2]}", marks
    if kind < 0.12:
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
