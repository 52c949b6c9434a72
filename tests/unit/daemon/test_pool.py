"""Which conversations a spare process may be given to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.model import Profile, Trust
from daemon.pool import serves

MADE_FOR = Profile(Trust.MEMBER, ("Read", "Bash"), ask=("Bash",), egress=("pypi.org:443",))


def test_a_spare_serves_whoever_has_the_same_rights() -> None:
    assert serves(MADE_FOR, MADE_FOR)
    assert serves(MADE_FOR, replace(MADE_FOR, trust=Trust.OPERATOR))


@pytest.mark.parametrize(
    "wanted",
    [
        replace(MADE_FOR, trust=Trust.PUBLIC),
        replace(MADE_FOR, tools=("Read",)),
        replace(MADE_FOR, ask=()),
        replace(MADE_FOR, egress=()),
        replace(MADE_FOR, egress=("pypi.org:443", "example.org:443")),
    ],
)
def test_and_nobody_with_others(wanted: Profile) -> None:
    assert not serves(MADE_FOR, wanted)
