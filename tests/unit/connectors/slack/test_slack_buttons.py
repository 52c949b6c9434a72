"""The buttons beside an approval: what is posted, and what a press means, whatever JSON it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.slack.buttons import (
    compose_outcome,
    compose_request,
    pressed,
    replaced,
    update_arguments,
)
from connectors.slack.inbound import Bot, Skipped
from connectors.slack.outbound import post_arguments
from daemon.model import (
    Approval,
    ApprovalId,
    ConversationId,
    Decision,
    EffectKind,
    Identity,
    Trust,
    TurnId,
)
from tests.integration.slack_stage import pending

BOT = Bot(team="T1", user="U0BOT", bot="B1", name="postroom")
ID = ApprovalId(f"apr-{'0' * 32}")
APPROVAL = Approval(
    id=ID,
    conversation=ConversationId("slack:T1:C1:1700000000.000100"),
    connector="slack",
    turn=TurnId("turn-1"),
    tool="Bash",
    input='{"command":"ls"}',
    requesters=frozenset({"slack:T1:UBEA"}),
    asked_at=0.0,
)
HOSTILE = "```\n<!channel> <@UADA> *bold* &lt;!here&gt;"


class Known:
    """One operator (UADA), one member (UBEA); people of other teams are public."""

    def judge(self, user: str, home: str | None, name: str | None) -> Identity | None:
        if home not in (None, "T1"):
            return Identity(f"slack:{home}:{user}", user, Trust.PUBLIC)
        return {
            "UADA": Identity("slack:T1:UADA", "ada", Trust.OPERATOR),
            "UBEA": Identity("slack:T1:UBEA", "bea", Trust.MEMBER),
        }.get(user)

    def name_of(self, user: str) -> str | None:
        return None


def payload(**changed: Any) -> dict[str, Any]:
    button = {"type": "button", "action_id": "approve", "value": ID}
    whole: dict[str, Any] = {
        "type": "block_actions",
        "user": {"id": "UADA", "team_id": "T1"},
        "container": {"channel_id": "C1", "message_ts": "1700000001.000200"},
        "message": {"thread_ts": "1700000000.000100"},
        "actions": [button],
    }
    return whole | changed


def press(**changed: Any) -> Decision | Skipped:
    return pressed("slack", payload(**changed), BOT, Known())


def test_a_press_says_who_decided_what_and_where() -> None:
    found = press()
    assert isinstance(found, Decision)
    assert (found.approval, found.approve) == (ID, True)
    assert (found.sender.id, found.sender.trust) == ("slack:T1:UADA", Trust.OPERATOR)
    assert found.target == {"channel": "C1", "thread_ts": "1700000000.000100", "user": "UADA"}
    denied = press(actions=[{"action_id": "deny", "value": ID}])
    assert isinstance(denied, Decision)
    assert not denied.approve


@pytest.mark.parametrize(
    ("user", "sender", "trust"),
    [
        ({"id": "UBEA", "team_id": "T1"}, "slack:T1:UBEA", Trust.MEMBER),
        ({"id": "UADA", "team_id": "T2"}, "slack:T2:UADA", Trust.PUBLIC),
        ({"id": "UNEW", "team_id": "T1"}, "slack:T1:UNEW", None),
        ({"id": "UNEW"}, "slack:T1:UNEW", None),
    ],
)
def test_who_presses_is_judged_by_where_they_come_from(
    user: dict[str, str], sender: str, trust: Trust | None
) -> None:
    found = press(user=user)
    assert isinstance(found, Decision)
    assert (found.sender.id, found.sender.trust) == (sender, trust)


@pytest.mark.parametrize(
    "changed",
    [
        {"actions": []},
        {"actions": None},
        {"actions": [{"action_id": "vote", "value": ID}]},
        {"actions": [{"action_id": "approve", "value": "apr-1; drop table"}]},
        {"actions": [{"action_id": "approve"}]},
        {"user": None},
        {"user": {"id": "../etc"}},
        {"container": {"type": "view"}},
        {"container": {"channel_id": "C1", "message_ts": 17}},
    ],
)
def test_other_buttons_and_nonsense_are_left(changed: dict[str, Any]) -> None:
    assert isinstance(press(**changed), Skipped)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(payload(), json_values)))
def test_no_payload_breaks_it(changed: dict[str, Any]) -> None:
    assert isinstance(press(**changed), Decision | Skipped)


def test_what_an_agent_wrote_is_shown_as_it_is_and_calls_nobody() -> None:
    effect = pending(compose_request(APPROVAL, "May I?", HOSTILE))
    arguments = post_arguments(effect, "C1")
    assert "markdown_text" not in arguments, "it excludes blocks"
    assert (arguments["text"], arguments["thread_ts"]) == ("May I?", "1700000000.000100")
    line, literal, buttons = arguments["blocks"]
    assert line["text"]["type"] == "plain_text"
    (written,) = literal["elements"]
    assert written["type"] == "rich_text_preformatted"
    assert written["elements"] == [{"type": "text", "text": HOSTILE}]
    assert [button["value"] for button in buttons["elements"]] == [ID, ID]
    assert arguments["metadata"]["event_payload"] == {"d": effect.id}


def test_its_outcome_takes_the_place_of_the_post_and_has_no_buttons() -> None:
    request = compose_request(APPROVAL, "May I?", "ls")
    outcome = pending(compose_outcome(APPROVAL, "Approved by Ada.", "ls"))
    assert outcome.kind is EffectKind.OUTCOME
    assert replaced(outcome) == request.id
    arguments = update_arguments(outcome, "C1", "1700000001.000200")
    assert arguments["ts"] == "1700000001.000200"
    assert "button" not in json.dumps(arguments)
    assert "ls" in json.dumps(arguments["blocks"]), "what was decided can still be read"
