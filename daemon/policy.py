"""The rule of two: of untrusted input, private data and outside effects, at most two meet in one
turn without a person. Pure; the configuration is checked by it before anything starts.

Source: "Agents Rule of Two" (Meta, 2025-10); what stands for each of the three here, and why:
docs/security.md.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import StrEnum

from daemon.model import Profile, Trust
from daemon.toolnames import served


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
    found = set()
    if profile.trust is not Trust.OPERATOR:  # members quote and forward what strangers wrote
        found.add(Power.UNTRUSTED)
    if profile.trust is Trust.PUBLIC:  # answers go to strangers
        found.add(Power.OUTSIDE)
    for tool in profile.tools:
        if tool not in profile.ask:
            found |= _brought_by(tool, profile, walled=walled)
    return found


def to_be_asked(profile: Profile, *, walled: bool) -> tuple[str, ...]:
    """The tools that have to be added to `ask` for the rule to hold; none: it does."""
    if len(powers(profile, walled=walled)) < len(Power):
        return ()
    too_much = Power.PRIVATE if profile.trust is Trust.PUBLIC else Power.OUTSIDE
    return tuple(
        tool
        for tool in profile.tools
        if tool not in profile.ask and too_much in _brought_by(tool, profile, walled=walled)
    )


def _brought_by(tool: str, profile: Profile, *, walled: bool) -> AbstractSet[Power]:
    if served(tool):  # it has secrets of its own, and reaches what they open
        reads = tool in profile.only_read
        return {Power.PRIVATE} if reads else {Power.PRIVATE, Power.OUTSIDE}
    if tool in _RUNS and (profile.egress or not walled):  # without walls a shell goes anywhere
        return {Power.PRIVATE, Power.OUTSIDE}
    return {Power.PRIVATE} if tool in _READS else set()
