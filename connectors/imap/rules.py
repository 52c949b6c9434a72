"""What must never be answered: plain code, before any model is asked.

The rules' names are those of docs/mail-answers.md; their sources are RFC 3834 (automatic
responses), RFC 2369 and 2919 (lists) and RFC 5321 4.5.5 (bounces). Whatever a mail claims can only
make it less likely to be answered, so here its own headers are believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from connectors.imap.config import ImapTable
from connectors.imap.mail import Mail
from connectors.imap.parse import Parsed

X_LOOP = "postroom"  # how each of our mails begins its X-Loop

_ROBOTS = re.compile(
    r"(?:no|do[-_.]?not)[-_.]?reply.*|owner-.*|.*-request|listserv|majordomo", re.IGNORECASE
)
_SERVERS = re.compile(r"mailer-daemon|postmaster|bounces?\b.*", re.IGNORECASE)
_JUNK = {"$junk", "junk"}
_JUNK_FOLDERS = {"junk", "spam", "junk e-mail", "junk email", "bulk mail"}
_RECIPIENTS = ("to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc")


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a mail is neither answered nor drafted for. `sortable`: in the mode `triage` it is still
    labelled. What may be a response to a mail of ours is not: a notice of ours could bring it.
    """

    rule: str
    why: str
    sortable: bool = False

    def __str__(self) -> str:
        return f"{self.rule}: {self.why}"


def objection(mail: Mail, table: ImapTable) -> Objection | None:
    """The first rule that a mail breaks, those of the mode `triage` before the others."""
    found = list(_objections(mail, table))
    return next((one for one in found if not one.sortable), found[0] if found else None)


def addressed_to_us(parsed: Parsed, table: ImapTable) -> bool:
    """R7: one of our addresses is among the recipients (RFC 3834 2)."""
    return bool(set(_addresses(parsed, _RECIPIENTS)) & table.own_addresses)


def _objections(mail: Mail, table: ImapTable) -> Iterable[Objection]:
    parsed = mail.parsed
    yield from _by_sender(parsed, table)
    yield from _by_marks(parsed, table)
    if parsed.list_fields:
        yield Objection("R3", f"a mailing list ({parsed.list_fields[0]})", sortable=True)
    if _words(parsed, "precedence") & {"bulk", "list", "junk"}:
        yield Objection("R3", "bulk mail (Precedence)", sortable=True)
    yield from _by_flags(mail)


def _by_sender(parsed: Parsed, table: ImapTable) -> Iterable[Objection]:
    returned = parsed.headers.get("return-path", [""])[0]
    if re.fullmatch(r"\s*<\s*>\s*", returned):
        yield Objection("R1", "a bounce (empty Return-Path)")
    names = [address.rpartition("@")[0] for address in _addresses(parsed, ("from", "reply-to"))]
    names.append(returned.strip(" <>").rpartition("@")[0])
    if any(_SERVERS.fullmatch(name) for name in names[:-1]) or re.fullmatch(
        r"mailer-daemon|postmaster", names[-1], re.IGNORECASE
    ):
        yield Objection("R1", "written by a mail server")
    if any(_ROBOTS.fullmatch(name) for name in names[:-1]):
        yield Objection("R4", "from an address that reads no answers", sortable=True)
    if set(_addresses(parsed, ("from",))) & table.own_addresses:
        yield Objection("R6", "from our own address")


def _by_marks(parsed: Parsed, table: ImapTable) -> Iterable[Objection]:
    for mark in _words(parsed, "auto-submitted") - {"no"}:
        yield Objection("R2", f"written by a machine ({mark})", sortable=mark == "auto-generated")
    for name in ("x-autoreply", "x-autorespond"):
        if _words(parsed, name) - {"no"}:
            yield Objection("R5", f"an automatic response ({name})")
    if _words(parsed, "x-auto-response-suppress") - {"none"}:
        yield Objection("R5", "asks for no automatic response", sortable=True)
    if "feedback-id" in parsed.headers:
        yield Objection("R5", "bulk mail (Feedback-ID)", sortable=True)
    if parsed.report:
        yield Objection("R5", "a delivery report or a receipt")
    loops = " ".join(parsed.headers.get("x-loop", [])).lower().split()
    if X_LOOP in loops or table.own_addresses & set(loops):
        yield Objection("R6", "it has been here before (X-Loop)")


def _by_flags(mail: Mail) -> Iterable[Objection]:
    flags = {flag.lower() for flag in mail.flags}
    if flags & _JUNK and "$notjunk" not in flags:
        yield Objection("R9", "marked as junk")
    if re.split(r"[/.]", mail.folder)[-1].lower() in _JUNK_FOLDERS:
        yield Objection("R9", "in a folder for junk", sortable=True)
    for flag in ("\\deleted", "\\draft"):
        if flag in flags:
            yield Objection("R11", f"marked as {flag[1:]}")
    if "\\answered" in flags:
        yield Objection("R11", "a person has answered it", sortable=True)


def _addresses(parsed: Parsed, names: Iterable[str]) -> list[str]:
    return [pair[1].lower() for name in names for pair in parsed.addresses.get(name, ())]


def _words(parsed: Parsed, name: str) -> set[str]:
    """The first word of each field of a name, in lower case."""
    values = parsed.headers.get(name, ())
    return {(re.split(r"[\s;,(]", value.strip(), maxsplit=1)[0] or "?").lower() for value in values}
