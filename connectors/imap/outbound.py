"""What leaves: an answer as a mail to send or a draft, and the bytes of either. Pure.

Everything of a mail is fixed in its effect before anything is sent, so that a second try is the
same mail, with the same Message-ID, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.charset import QP, Charset
from email.header import Header
from email.message import Message as Mime
from email.policy import compat32
from email.utils import format_datetime
from typing import Any

from connectors.imap.config import ADDRESS, ImapTable
from connectors.imap.rules import X_LOOP
from connectors.imap.tools import Occasion, notice, sort
from daemon.model import (
    Answer,
    ConversationId,
    Effect,
    EffectKind,
    Message,
    NewEffect,
    Trust,
    effect_id,
)
from daemon.quoting import in_code

MAX_SUBJECT = 200  # characters

_REPEATED = re.compile(r"^(?:\s*(?:re|aw|sv|vs|antw)\s*(?:\[\d+\])?\s*:)+\s*", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]+")
_AS_IS = Charset("utf-8")
_AS_IS.body_encoding = QP  # readable on the wire, and no line is too long
# No folding but our own: the modern policy makes encoded words of long Message-IDs (measured).
_POLICY = compat32.clone(linesep="\r\n", max_line_length=998)


# Where a mail of the mailbox lies: folder, UIDVALIDITY, UID, and its Message-ID if it has moved.
Place = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Envelope:
    """What SMTP is told of a mail: addresses, and the bytes."""

    sender: str
    recipients: tuple[str, ...]
    message_id: str
    raw: bytes


# --- effects -------------------------------------------------------------------------------------


def may_send(answer: Answer, table: ImapTable) -> bool:
    """Whether an answer may leave without a person. Each mail that it answers must allow it, at
    the label that its conversation has.
    """
    return (
        table.mode == "reply"
        and answer.trust is not Trust.PUBLIC
        and all(_sendable(message) for message in answer.messages)
    )


def _sendable(message: Message) -> bool:
    known = message.sender.trust in (Trust.MEMBER, Trust.OPERATOR)
    return known and message.target.get("hold") == "" and bool(_recipients((message,)))


def compose(answer: Answer, table: ImapTable, *, spent: str, day: int) -> tuple[NewEffect, ...]:
    """The effects of an answer. `spent` says which of the day's quotas is used up, if one is; it
    is told once a `day` (days since the epoch).

    A sentence of the daemon's own is for nobody outside: operators are told in other ways.
    """
    if not answer.final:
        return ()
    occasion = Occasion(
        answer.connector, answer.conversation, answer.turn, answer.messages, answer.key
    )
    if table.mode == "triage":
        return sort(occasion, answer.text)
    send = may_send(answer, table)
    kind = EffectKind.REPLY if send and not spent else EffectKind.DRAFT
    effects = [_answering(answer, table, kind)]
    if send and spent:
        key = f"{answer.connector}/quota/{spent}/{day}"
        text = f"{answer.connector}: {spent}: from now on today, drafts wait in Drafts"
        effects.append(notice(occasion, effect_id(key, 0), text))
    return tuple(effects)


def _answering(answer: Answer, table: ImapTable, kind: EffectKind) -> NewEffect:
    last = answer.messages[-1]
    id_ = effect_id(answer.key, 0)
    message_id = f"<{id_}@{table.domain}>"
    mail: Any = last.target.get("mail")
    return NewEffect(
        id=id_,
        connector=answer.connector,
        conversation=answer.conversation,
        kind=kind,
        target={
            "to": _recipients(answer.messages),
            "mails": [message.target["mail"] for message in answer.messages],
        },
        body={
            "from": table.address,
            "message_id": message_id,
            "subject": answering_subject(last.subject),
            "in_reply_to": str(mail[3]) if mail else "",
            "references": last.target.get("references", []),
            "text": answer.text,
        },
        names=(message_id,),
    )


def mails_of(effect: Effect) -> Sequence[Place]:
    """The mails that an effect answers, or labels."""
    mails: Any = effect.target.get("mails", ())
    return mails if isinstance(mails, list | tuple) else ()


def compose_notice(table: ImapTable, connector: str, key: str, to: str, text: str) -> NewEffect:
    """A mail to somebody of `daemon.notify`."""
    id_, first = effect_id(key, 0), text.partition("\n")[0]
    return NewEffect(
        id=id_,
        connector=connector,
        conversation=ConversationId(f"notice:mail:{to}"),
        kind=EffectKind.NOTICE,
        target={"to": [to.strip().lower()]},
        body={
            "from": table.address,
            "message_id": f"<{id_}@{table.domain}>",
            "subject": f"[Postroom] {first}"[:MAX_SUBJECT],
            "text": text,
        },
    )


def describe(effect: Effect) -> str:
    """For the person who has to look for it."""
    body = effect.body
    match effect.kind:
        case EffectKind.REPLY | EffectKind.DRAFT:
            to: Any = effect.target.get("to", [])
            what = "the answer" if effect.kind is EffectKind.REPLY else "the draft"
            words = [what, in_code(body["subject"]), "to", in_code(", ".join(to) or "nobody")]
            if body.get("in_reply_to"):
                words += ["on the mail", in_code(str(body["in_reply_to"]).strip("<>"))]
            return " ".join(words)
        case EffectKind.LABEL:
            where = ", ".join(":".join(map(str, mail[:3])) for mail in mails_of(effect))
            return f"the label {in_code(body['keyword'])} on {in_code(where)}"
    return ""


def answering_subject(subject: str) -> str:
    """With one "Re:", however many and in whichever language it had."""
    bare = _REPEATED.sub("", _UNSAFE.sub(" ", subject)).strip()
    return f"Re: {bare}"[:MAX_SUBJECT].rstrip()


def _recipients(messages: Sequence[Message]) -> list[str]:
    """Those who are answered: chosen by our rules from the mails' headers, never by the agent. An
    address of the exotic kind is left to the person who reads the draft.
    """
    wanted = dict.fromkeys(str(message.target.get("to", "")) for message in reversed(messages))
    return [address for address in wanted if ADDRESS.fullmatch(address)]


# --- bytes ---------------------------------------------------------------------------------------


def envelope(effect: Effect) -> Envelope:
    """The mail of an effect: the same however often it is asked for."""
    body = effect.body
    to: Any = effect.target.get("to", [])
    return Envelope(str(body["from"]), tuple(to), str(body["message_id"]), _raw(effect, to))


def _raw(effect: Effect, to: Sequence[str]) -> bytes:
    body = effect.body
    mail: Mime[str, str] = Mime(policy=_POLICY)
    mail["From"] = _line(body["from"])
    if to:
        mail["To"] = _line(", ".join(to))
    mail["Subject"] = _subject(str(body["subject"]))
    mail["Date"] = format_datetime(datetime.fromtimestamp(int(effect.created_at), UTC))
    mail["Message-ID"] = _line(body["message_id"])
    if body.get("in_reply_to"):
        mail["In-Reply-To"] = _line(body["in_reply_to"])
    references: Any = body.get("references")
    if references:
        mail["References"] = _line(" ".join(references))
    if effect.kind is not EffectKind.DRAFT:  # a draft is a person's mail by the time it is sent
        answered = effect.kind is EffectKind.REPLY
        mail["Auto-Submitted"] = "auto-replied" if answered else "auto-generated"
        mail["X-Loop"] = _line(f"{X_LOOP} {body['from']}")
    text = str(body["text"]).replace("\r\n", "\n").rstrip() + "\n"
    mail.set_payload(text.encode("utf-8", "replace").decode(), _AS_IS)
    return mail.as_bytes()


def _line(value: object) -> str:
    """A header's value: no control character can end it and begin another."""
    return _UNSAFE.sub(" ", str(value)).encode("ascii", "replace").decode()


def _subject(text: str) -> str:
    text = _UNSAFE.sub(" ", text)
    if text.isascii():
        return text
    encoded = Header(text.encode("utf-8", "replace").decode(), "utf-8", header_name="Subject")
    return encoded.encode(linesep="").replace("\n", "")
