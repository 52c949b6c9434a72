"""The rule of two, over every profile that can be written."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations

import pytest

from daemon.config import ProfilesTable
from daemon.model import Profile, Trust
from daemon.policy import Power, powers, to_be_asked

TOOLS = ("Read", "Glob", "Grep", "Write", "Edit", "Bash")
SETS = [*chain.from_iterable(combinations(TOOLS, size) for size in range(len(TOOLS) + 1))]


@pytest.mark.parametrize("egress", [(), ("pypi.org:443",)])
@pytest.mark.parametrize("walled", [True, False])
@pytest.mark.parametrize("trust", Trust)
def test_what_is_to_be_asked_for_mends_every_profile_and_is_no_more_than_needed(
    trust: Trust, walled: bool, egress: tuple[str, ...]
) -> None:
    for tools in SETS:
        bare = Profile(trust, tools, egress=egress)
        needed = to_be_asked(bare, walled=walled)
        mended = replace(bare, ask=needed)
        assert len(powers(mended, walled=walled)) < len(Power)
        assert to_be_asked(mended, walled=walled) == ()
        for less in combinations(needed, max(len(needed) - 1, 0)):
            if needed:
                assert len(powers(replace(bare, ask=less), walled=walled)) == len(Power)


@pytest.mark.parametrize(
    ("trust", "tools", "walled", "met"),
    [
        (Trust.PUBLIC, (), True, {Power.UNTRUSTED, Power.OUTSIDE}),
        (Trust.PUBLIC, ("Write",), True, {Power.UNTRUSTED, Power.OUTSIDE}),
        (Trust.PUBLIC, ("Grep",), True, set(Power)),
        (Trust.MEMBER, TOOLS, True, {Power.UNTRUSTED, Power.PRIVATE}),
        (Trust.MEMBER, TOOLS, False, set(Power)),
        (Trust.OPERATOR, TOOLS, False, {Power.PRIVATE, Power.OUTSIDE}),
    ],
)
def test_what_meets_in_a_turn(
    trust: Trust, tools: tuple[str, ...], walled: bool, met: set[Power]
) -> None:
    assert powers(Profile(trust, tools), walled=walled) == met


@pytest.mark.parametrize(
    ("trust", "asked", "met"),
    [
        (Trust.MEMBER, (), set(Power)),
        (Trust.MEMBER, ("Bash",), {Power.UNTRUSTED, Power.PRIVATE}),
        (Trust.OPERATOR, (), {Power.PRIVATE, Power.OUTSIDE}),
    ],
)
def test_a_way_out_is_one_where_a_shell_may_take_it_unasked(
    trust: Trust, asked: tuple[str, ...], met: set[Power]
) -> None:
    profile = Profile(trust, ("Read", "Bash"), asked, egress=("pypi.org:443",))
    assert powers(profile, walled=True) == met


LOOK_UP, FILE = "mcp__notes__look-up", "mcp__notes__file"


@pytest.mark.parametrize(
    ("trust", "tools", "only_read", "asked"),
    [
        (Trust.MEMBER, (LOOK_UP, FILE), (), (LOOK_UP, FILE)),
        (Trust.MEMBER, ("Read", "Bash", LOOK_UP, FILE), (LOOK_UP,), (FILE,)),
        (Trust.MEMBER, ("Read", "Bash", LOOK_UP), (LOOK_UP,), ()),
        (Trust.OPERATOR, ("Read", "Bash", LOOK_UP, FILE), (), ()),
        (Trust.PUBLIC, (LOOK_UP, FILE), (LOOK_UP,), (LOOK_UP, FILE)),
    ],
)
def test_a_server_s_tool_acts_outside_unless_it_is_said_why_not(
    trust: Trust, tools: tuple[str, ...], only_read: tuple[str, ...], asked: tuple[str, ...]
) -> None:
    profile = Profile(trust, tools, only_read=frozenset(only_read))
    assert to_be_asked(profile, walled=True) == asked


def test_the_profiles_that_nobody_wrote_keep_to_it() -> None:
    for trust in Trust:
        assert to_be_asked(ProfilesTable().profile(trust), walled=True) == ()
