"""Labels, calls for a person, and the verdicts of mail that is only sorted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from connectors.imap.tools import TOOLS, Verdict, compose_tool, verdict_of
from daemon.model import (
    ConversationId,
    EffectKind,
    Message,
    MessageId,
    NewEffect,
    Priority,
    Sender,
    StoredMessage,
    Trust,
    Turn,
    TurnId,
    Workspace,
)


def turn() -> Turn:
    mails = tuple(
        StoredMessage(
            MessageId(f"msg-{uid}"),
            Message(
                connector="support",
                outside_id=f"INBOX:1:{uid}",
                conversation=ConversationId("c"),
                sender=Sender("mail:eve@evil.org", "Eve", Trust.MEMBER),
                text="the secret plan",
                sent_at=0.0,
                priority=Priority.MAIL,
                target={"mail": ["INBOX", 1, uid, f"<{uid}@x>"], "to": "eve@evil.org"},
                subject="the secret subject",
            ),
            0.0,
        )
        for uid in (4, 5)
    )
    workspace = Workspace("w", Path("/nowhere"), "s")
    return Turn(TurnId("turn-1"), mails[0].message.conversation, "support", Trust.MEMBER,
                workspace, mails, 0.0)  # fmt: skip


def called(tool: str, **arguments: object) -> NewEffect | str:
    return compose_tool("support", tool, arguments, "turn-1/1/toolu_1", turn())


def test_a_label_goes_on_all_the_mails_of_the_turn() -> None:
    effect = called("label", label="invoice")
    assert isinstance(effect, NewEffect)
    assert effect.kind is EffectKind.LABEL
    assert effect.body == {"keyword": "Triage/invoice"}
    assert effect.target == {"mails": [["INBOX", 1, 4, "<4@x>"], ["INBOX", 1, 5, "<5@x>"]]}


@pytest.mark.parametrize(
    "word", ["", "two words", "\\Deleted", "a)b", "ä", "x" * 25, "1st", "a\nb", '"', "a*"]
)
def test_a_label_is_no_way_into_the_imap_command(word: str) -> None:
    assert isinstance(called("label", label=word), str)


def test_people_are_told_where_to_look_and_nothing_that_the_mail_says() -> None:
    effect = called("escalate", reason="urgent")
    assert isinstance(effect, NewEffect)
    assert effect.kind is EffectKind.NOTICE
    assert effect.target == {"people": True}
    text = str(effect.body["text"])
    assert "postroom trace turn-1" in text
    assert "secret" not in text
    assert "eve" not in text.lower()


def test_a_reason_is_not_free_text() -> None:
    assert isinstance(called("escalate", reason="call +1 900 555 now"), str)
    assert isinstance(called("escalate"), str)


def test_a_tool_that_is_not_ours_is_refused() -> None:
    assert isinstance(called("forward", reason="urgent", to="eve@evil.org"), str)


def test_the_same_call_has_the_same_effect() -> None:
    assert called("label", label="order") == called("label", label="order")


def test_each_tool_says_what_it_takes() -> None:
    for tool in TOOLS:
        assert tool.schema["additionalProperties"] is False
        assert re.fullmatch(r"[a-z_]+", tool.name)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"label": "invoice", "person": false, "note": "A bill."}', Verdict("invoice", False)),
        ('{"label": "complaint", "person": true}', Verdict("complaint", True)),
        ('Here it is:\n```json\n{"label": "spam"}\n```', Verdict("spam", False)),
        ('{"label": " Urgent "}', Verdict("urgent", False)),
        ('{"label": "Triage/../x", "person": true}', Verdict("unsorted", True)),
        ('{"label": "order", "person": "no"}', Verdict("order", False)),
        ('{"label": ["order"]}', Verdict("unsorted", False)),
        ("I think that it is an invoice.", Verdict("unsorted", False)),
        ("", Verdict("unsorted", False)),
        ("[1, 2]", Verdict("unsorted", False)),
        ("{" * 100_000 + "}", Verdict("unsorted", False)),
        ('{"a": ' + "[" * 100_000 + "}", Verdict("unsorted", False)),
    ],
)
def test_a_verdict_is_read_or_the_mail_stays_unsorted(text: str, verdict: Verdict) -> None:
    assert verdict_of(text) == verdict
