"""The one hierarchy of exceptions. Outcomes are values (model.py); these are for the unplanned.

The text of an exception goes to logs and to operators, never to people in a conversation.
"""

from __future__ import annotations

from typing import ClassVar


class PostroomError(Exception):
    """Something went wrong."""

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str | None = None, **fields: object) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.fields = fields


class ConfigError(PostroomError):
    """The configuration is not usable; the message names table and key."""

    exit_code = 78


class WallError(PostroomError):
    """A wall that was asked for does not hold here."""

    exit_code = 78


class DataDirBusy(PostroomError):
    """Another daemon holds the data directory."""

    exit_code = 75


class NotReachable(PostroomError):
    """A service that a command needs cannot be reached."""

    exit_code = 69


class WrongUsage(PostroomError):
    """A command was given what it cannot work with; the message says what to write."""

    exit_code = 2


class NotDone(PostroomError):
    """What a command was to do, or to show, is not there or was refused."""

    exit_code = 1


class Unavailable(PostroomError):
    """The other side is down for now: waited out, not counted as a failure of ours."""

    def __init__(self, message: str | None = None, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AuthenticationFailed(PostroomError):
    """A token, password or key was refused: the service is parked until somebody acts."""


class LedgerError(PostroomError):
    """The ledger could not commit; nothing of the call is durable."""


class OwnershipLost(LedgerError):
    """A write carried an epoch that is no longer the owner's: another daemon has the ledger."""

    exit_code = 75


class AgentDied(PostroomError):
    """The agent process ended, or stopped making sense, before it answered."""


class StartFailed(AgentDied):
    """The agent process did not come up."""


class Escalation(PostroomError):
    """A service used up its restart budget: the daemon ends, for its container to start it."""
