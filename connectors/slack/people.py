"""Who people are: users.info, remembered, and what trust it gives them. Never what they say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.slack.inbound import Bot
from connectors.slack.web import Refused
from daemon.clock import Clock
from daemon.model import Identity, Trust

FRESH_SECONDS = 3600.0  # after that, asked for again; until the answer, what is known holds
KEPT_SECONDS = 86400.0
MAX_KEPT = 20_000
NOT_ANSWERED = "guests and people of other organisations are not answered (answer_public = false)"

Ask = Callable[[str], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    trust: Trust
    asked_at: float


class People:
    """Senders of one workspace. `ask` is users.info: it gives the `user` object."""

    def __init__(
        self, *, clock: Clock, ask: Ask, operators: frozenset[str], answer_public: bool
    ) -> None:
        self.bot: Bot | None = None
        self._clock = clock
        self._ask = ask
        self._operators = operators
        self._answer_public = answer_public
        self._known: dict[str, Person] = {}

    def judge(self, user: str, home: str | None, name: str | None) -> Identity | None:
        """Who a sender is, as far as it is known without asking; None: ask.

        People of another team are public at once, and carry that team in their id.
        """
        team = self._team()
        if home is not None and home != team:
            sender = f"slack:{home}:{user}"
            return self._identity(sender, name or user, self._raised(sender, Trust.PUBLIC))
        sender = f"slack:{team}:{user}"
        person = self._remembered(user)
        if person is None and home == team and sender in self._operators:
            return self._identity(sender, name or user, Trust.OPERATOR)
        if person is None:
            return None
        return self._identity(sender, person.name, person.trust)

    def name_of(self, user: str) -> str | None:
        person = self._known.get(user)
        return person.name if person else None

    def stale(self, user: str) -> bool:
        """Whether somebody should be asked for (again)."""
        person = self._remembered(user)
        return person is None or self._clock.monotonic() - person.asked_at > FRESH_SECONDS

    async def resolve(self, sender: str) -> Identity:
        """Ask who a sender ("slack:TEAM:USER") is. Raises Unavailable, Refused (but not for users
        that do not exist: they are public).
        """
        user = sender.rpartition(":")[2]
        if self.stale(user):
            try:
                profile = await self._ask(user)
            except Refused as error:
                if error.code not in {"user_not_found", "user_not_visible", "users_not_found"}:
                    raise
                profile = {}
            self._remember(user, self._person(user, profile))
        person = self._known[user]
        return self._identity(sender, person.name, person.trust)

    def _person(self, user: str, profile: Mapping[str, Any]) -> Person:
        """From users.info's `user`: docs.slack.dev/reference/objects/user-object."""
        outside = (
            profile.get("team_id") != self._team()
            or profile.get("deleted")
            or profile.get("is_bot")
            or profile.get("is_stranger")
            or profile.get("is_restricted")
            or profile.get("is_ultra_restricted")
        )
        trust = Trust.PUBLIC if outside else Trust.MEMBER
        if profile.get("team_id") == self._team() and not profile.get("deleted"):
            trust = self._raised(f"slack:{self._team()}:{user}", trust)
        return Person(_name(profile) or user, trust, self._clock.monotonic())

    def _raised(self, sender: str, trust: Trust) -> Trust:
        return Trust.OPERATOR if sender in self._operators else trust

    def _identity(self, sender: str, name: str, trust: Trust) -> Identity:
        refused = trust is Trust.PUBLIC and not self._answer_public
        return Identity(sender, name, trust, NOT_ANSWERED if refused else None)

    def _remembered(self, user: str) -> Person | None:
        person = self._known.get(user)
        if person is None or self._clock.monotonic() - person.asked_at > KEPT_SECONDS:
            return None
        return person

    def _remember(self, user: str, person: Person) -> None:
        self._known.pop(user, None)
        self._known[user] = person
        while len(self._known) > MAX_KEPT:
            del self._known[next(iter(self._known))]

    def _team(self) -> str:
        return self.bot.team if self.bot else ""


def _name(profile: Mapping[str, Any]) -> str:
    """The name that Slack shows: display name, else real name. One line, of bounded length."""
    details = profile.get("profile")
    details = details if isinstance(details, Mapping) else {}
    for name in (details.get("display_name"), profile.get("real_name"), profile.get("name")):
        if isinstance(name, str) and name.strip():
            return " ".join(name.split())[:80]
    return ""
