from __future__ import annotations

import pytest

from daemon.model import Profile, Trust
from daemon.ports import PromptFate
from daemon.recovery import Harvest, Lost, NewAttempt, Resend, Step, next_step


@pytest.mark.parametrize(
    ("fate", "step"),
    [
        pytest.param(PromptFate(present=False), Resend(), id="absent: the same uuid may be sent"),
        pytest.param(
            PromptFate(present=False, tools_done=frozenset({"t1"})),
            Resend(frozenset({"t1"})),
            id="absent, and the model knows what an earlier attempt did",
        ),
        pytest.param(
            PromptFate(present=True, answer="42"), Harvest("42"), id="answered: harvest the text"
        ),
        pytest.param(
            PromptFate(present=True, answer=""), Harvest(""), id="answered with nothing: still done"
        ),
        pytest.param(
            PromptFate(present=True), NewAttempt(frozenset()), id="unanswered: a new uuid"
        ),
        pytest.param(
            PromptFate(present=True, tools_done=frozenset({"t1"}), tools_open=("Bash",)),
            NewAttempt(frozenset({"t1"})),
            id="a shell cut off within the walls is no loss",
        ),
        pytest.param(
            PromptFate(present=True, tools_open=("mcp__postroom__label_mail",)),
            NewAttempt(frozenset()),
            id="our own tools stage, so a cut-off call did nothing outside",
        ),
        pytest.param(
            PromptFate(present=True, tools_open=("mcp__crm__create",)),
            Lost(("mcp__crm__create",)),
            id="a tool that acts outside: nobody can tell",
        ),
    ],
)
def test_the_rule_of_attempts(fate: PromptFate, step: Step) -> None:
    assert next_step(fate, Profile(Trust.MEMBER, ("Bash",))) == step


def test_what_only_reads_outside_harms_nobody_where_it_is_cut_off() -> None:
    fate = PromptFate(present=True, tools_open=("mcp__crm__find", "mcp__crm__create"))
    reading = frozenset({"mcp__crm__find"})
    profile = Profile(Trust.MEMBER, tuple(fate.tools_open), only_read=reading)
    assert next_step(fate, profile) == Lost(("mcp__crm__create",))


def test_a_shell_with_a_way_out_may_have_done_something_outside() -> None:
    fate = PromptFate(present=True, tools_open=("Read", "Bash"))
    profile = Profile(Trust.MEMBER, ("Read", "Bash"), ("Bash",), egress=("pypi.org:443",))
    assert next_step(fate, profile) == Lost(("Bash",))
