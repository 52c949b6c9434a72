"""The rule of two: of untrusted input, private data and outside effects, at most two meet in one
turn without a person. Pure; the configuration is checked by it before anything starts.

Source: "Agents Rule of Two" (Meta, 2025-10); what stands for each of the three here, and why:
docs/security.md.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import StrEnum

from daemon.model import Profile, Trust


class Power(StrEnum):
    """What may meet in a turn."""

    UNTRUSTED = "untrusted input"
    PRIVATE = "private data"
    OUTSIDE = "outside effects"


# Tools whose results bring what lies in files before the model. Write brings nothing.
_READS = frozenset({"Read", "Glob", "Grep", "Edit", "Bash"})
_RUNS = frozenset({"Bash"})


def powers(profile: Profile, *, walled: bool) -> AbstractSet[Power]:
    """What meets in a turn of this profile without a person: what is asked for does not count."""
    free = frozenset(profile.tools) - frozenset(profile.ask)
    found = set()
    if profile.trust is not Trust.OPERATOR:  # members quote and forward what strangers wrote
        found.add(Power.UNTRUSTED)
    if free & _READS:
        found.add(Power.PRIVATE)
    leads_out = bool(profile.egress) or not walled  # without walls a shell goes anywhere
    if profile.trust is Trust.PUBLIC or (free & _RUNS and leads_out):
        found.add(Power.OUTSIDE)  # a stranger's answers go to strangers
    return found


def to_be_asked(profile: Profile, *, walled: bool) -> tuple[str, ...]:
    """The tools that have to be added to `ask` for the rule to hold; none: it does."""
    if len(powers(profile, walled=walled)) < len(Power):
        return ()
    risky = _READS if profile.trust is Trust.PUBLIC else _RUNS
    return tuple(tool for tool in profile.tools if tool in risky and tool not in profile.ask)
