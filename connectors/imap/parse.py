"""A mail's bytes to bounded plain values. Never raises; runs in a process of its own (reader.py).

`email.policy.default` raised on 36 of 10,762 public mails, `compat32` on none (measured): so
compat32, our own walk with limits, and each header and part behind its own guard.
"""

from __future__ import annotations

import dataclasses
import email
import email.policy
import hashlib
import inspect
import re
from dataclasses import dataclass, field
from email.message import Message as Mime
from email.utils import getaddresses
from functools import partial
from typing import Any

from connectors.imap.bounces import original_id, tells_of_failure
from connectors.imap.cleaning import clean, decode, header, unescaped
from connectors.imap.hypertext import to_text

MAX_DEPTH, MAX_PARTS, MAX_ADDRESSES = 50, 500, 500
MAX_FIELDS, MAX_FIELD = 50, 30_000  # fields of one name, characters of one field
MAX_BODY, MAX_QUOTED = 20_000, 10_000  # characters that go to the model
_MAX_TEXT = 200_000  # characters that are looked at
_WANTED = (
    *("from", "to", "cc", "bcc", "reply-to", "sender", "subject", "date", "return-path"),
    *("resent-to", "resent-cc", "resent-bcc", "auto-submitted", "precedence", "x-loop"),
    *("x-auto-response-suppress", "x-autoreply", "x-autorespond", "feedback-id"),
    *("authentication-results", "list-id"),
)
# What another server vouches for. Decoded, or without its hidden characters, a forged field could
# come to look like one that the server strips from foreign mail.
_AS_WRITTEN = ("authentication-results",)
_ADDRESSED = ("from", "reply-to", "to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc")
_MESSAGE_ID = re.compile(r"<[^<>\s\x00-\x1f\x7f]{1,300}>")
_ATOM = r"[^\s\x00-\x1f\x7f@<>()\[\],;:\"\\]"
_ADDR_SPEC = re.compile(rf"{_ATOM}{{1,64}}@{_ATOM}{{1,253}}")
# What changes on the way of one and the same mail is no part of its identity.
_TRANSIT = re.compile(
    rb"(?im)^(?:received|return-path|delivered-to|x-[^:\s]*|arc-[^:\s]*|authentication-results)"
    rb"[ \t]*:.*(?:\n[ \t].*)*\n?"
)


@dataclass(slots=True)
class Parsed:
    """One mail as plain values, ready for JSON. `headers` and `addresses` are by lower-case name;
    addresses are [display name, addr-spec] pairs, read from the raw field so that an encoded word
    cannot smuggle one in. `text` is the new text, `quoted` what it quotes, both without characters
    that hide. `broken` is empty, or why the mail could not be taken apart.
    """

    broken: str = ""
    message_id: str = ""
    in_reply_to: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    headers: dict[str, list[str]] = field(default_factory=dict)
    addresses: dict[str, list[list[str]]] = field(default_factory=dict)
    one_author: bool = False  # one From field with one plain address and no second "@" about
    list_fields: list[str] = field(default_factory=list)
    content_type: str = ""
    report: bool = False
    returned: str = ""  # the Message-ID of a mail that this one reports as not delivered
    text: str = ""
    quoted: str = ""
    attachments: list[list[str | int]] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    content_hash: str = ""

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def parse(raw: bytes) -> Parsed:
    flags: set[str] = set()
    out = Parsed(content_hash=content_hash(raw))
    try:
        mime: Mime[Any, Any] = email.message_from_bytes(raw, policy=email.policy.compat32)
        fields = _fields(mime)
        _read_headers(fields, out, flags)
        out.content_type = _content_type(mime)
        _read_body(mime, out, flags)
    except Exception as error:  # noqa: BLE001 - foreign bytes: RecursionError, MemoryError, any
        out.broken = f"it could not be taken apart ({type(error).__name__})"
    out.flags = sorted(flags)
    return out


def content_hash(raw: bytes) -> str:
    """SHA-256 of a mail without what relays add, with CRLF line ends: with the Message-ID it
    tells a second copy from another mail of the same id.
    """
    head, separator, body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
    text = _TRANSIT.sub(b"", head + b"\n") + separator + body
    return hashlib.sha256(text.replace(b"\n", b"\r\n")).hexdigest()


def _fields(mime: Mime[Any, Any]) -> dict[str, list[str]]:
    """The raw fields by lower-case name. Not `get_all`: it puts question marks for 8-bit bytes."""
    found: dict[str, list[str]] = {}
    for name, value in mime.raw_items():
        values = found.setdefault(str(name).lower(), [])
        if len(values) < MAX_FIELDS:
            values.append(str(value)[:MAX_FIELD])
    return found


def _read_headers(fields: dict[str, list[str]], out: Parsed, flags: set[str]) -> None:
    for name in _WANTED:
        if name in fields:
            read = _as_written if name in _AS_WRITTEN else partial(header, flags=flags)
            out.headers[name] = [read(value) for value in fields[name]]
    for name in _ADDRESSED:
        found = _addresses(fields.get(name, []), flags)
        if found:
            out.addresses[name] = found
    out.message_id = next(iter(_ids(fields, "message-id")), "")
    out.in_reply_to = _ids(fields, "in-reply-to")[:10]
    out.references = _ids(fields, "references")[-100:]
    out.list_fields = sorted(name[:50] for name in fields if name.startswith("list-"))[:20]
    out.one_author = _one_author(fields.get("from", []), out)


def _content_type(part: Any) -> str:
    """Of visible ASCII only: a sender may write anything into it, a NUL too."""
    return re.sub(r"[^\x21-\x7e]", "?", part.get_content_type())[:100]


def _as_written(value: str) -> str:
    """On one line, its words not decoded; what is not ASCII becomes a question mark."""
    return " ".join(value.encode("ascii", "replace").decode().split())


def _ids(fields: dict[str, list[str]], name: str) -> list[str]:
    return [
        found
        for value in fields.get(name, [])
        for found in _MESSAGE_ID.findall(value)
        if found.isascii()
    ]


# Newer Pythons give up a whole field for one odd address in it, as "a@b.c <a@b.c>" is, unless told
# not to. Nobody is trusted for what is found here alone: see `_one_author`.
_LENIENT: dict[str, Any] = (
    {"strict": False} if "strict" in inspect.signature(getaddresses).parameters else {}
)


def _addresses(values: list[str], flags: set[str]) -> list[list[str]]:
    if not values:
        return []
    text = unescaped(", ".join(values)[:MAX_FIELD], flags, MAX_FIELD * 4)
    # The parser recurses once per open parenthesis (measured): so many nest in no real mail.
    text = text.replace("(", " ") if text.count("(") > 50 else text
    try:
        pairs = getaddresses([" ".join(text.split())], **_LENIENT)
    except Exception:  # noqa: BLE001 - foreign bytes
        flags.add("header")
        return []
    if len(pairs) > MAX_ADDRESSES:
        flags.add("too many addresses")
    return [
        [header(shown, flags)[:200], spec]
        for shown, spec in pairs[:MAX_ADDRESSES]
        if _ADDR_SPEC.fullmatch(spec)
    ]


def _one_author(values: list[str], out: Parsed) -> bool:
    """Whether nobody can take the author for somebody else: one field, one address, one "@"."""
    if len(values) != 1 or len(out.addresses.get("from", [])) != 1:
        return False
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", values[0])
    return bare.count("@") == 1 and bare.isascii()


def _read_body(mime: Mime[Any, Any], out: Parsed, flags: set[str]) -> None:
    plain: list[str] = []
    html: list[str] = []
    room = _MAX_TEXT
    failed, returned = False, ""
    stack: list[tuple[Any, int]] = [(mime, 0)]
    seen = 0
    while stack:
        part, depth = stack.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_PARTS:
            flags.add("too many parts")
            break
        kind = _content_type(part)
        out.report = out.report or kind in _REPORTS
        failed = failed or tells_of_failure(part, kind)
        returned = returned or original_id(part, kind)
        if part.is_multipart() and kind != "message/rfc822":
            stack += [(child, depth + 1) for child in reversed(part.get_payload())]
            continue
        try:
            texts = html if kind == "text/html" else plain
            room -= _read_part(part, kind, texts, out, flags=flags, room=room)
        except Exception:  # noqa: BLE001 - foreign bytes: the other parts still count
            flags.add("part")
    out.returned = returned if failed else ""
    _choose(plain, html, out, flags)


_REPORTS = (
    "multipart/report",
    "message/delivery-status",
    "message/disposition-notification",
    "message/feedback-report",
)


def _read_part(
    part: Any, kind: str, texts: list[str], out: Parsed, *, flags: set[str], room: int
) -> int:
    """Returns how many characters of text it took."""
    name = part.get_filename()
    # A multipart without parts has lost its boundary: what is there is read as text.
    shown = kind in ("text/plain", "text/html") or kind.startswith("multipart/")
    if shown and name is None and part.get_content_disposition() != "attachment":
        payload = part.get_payload(decode=True) or b""
        text = decode(payload, part.get_content_charset(), flags, max(room, 0) * 4)[: max(room, 0)]
        texts.append(text)
        return len(text)
    if kind == "message/rfc822":
        inner = part.get_payload()
        name = name or (inner[0].get("subject") if isinstance(inner, list) and inner else None)
        size = len(inner[0].as_bytes()) if isinstance(inner, list) and inner else 0
    else:
        payload = part.get_payload(decode=True)
        size = len(payload) if isinstance(payload, bytes) else 0
    out.attachments.append([header(name or "", flags)[:200], kind[:100], size])
    return 0


def _choose(plain: list[str], html: list[str], out: Parsed, flags: set[str]) -> None:
    text = "\n".join(part for part in plain if part.strip())
    if text and any(part.strip() for part in html):
        flags.add("HTML form not shown")  # the two may differ, and on purpose
    elif html:
        text = to_text("\n".join(html), flags)
        flags.add("made from HTML")
    text = clean(text, _MAX_TEXT, flags)
    new, quoted = split_quoted(text)
    out.text = clean(new, MAX_BODY, flags)
    out.quoted = clean(quoted, MAX_QUOTED, flags)


def split_quoted(text: str) -> tuple[str, str]:
    """The new text and what it quotes. For looks only, never a border of security."""
    from email_reply_parser import EmailReplyParser  # noqa: PLC0415

    if len(text) > _MAX_SPLIT or text.count("On") > _MAX_ON:
        return _split_by_marks(text)
    try:
        fragments = EmailReplyParser.read(text).fragments
    except Exception:  # noqa: BLE001 - it falls over a backslash in "On ... wrote:" (measured)
        return _split_by_marks(text)
    new = "\n".join(part.content for part in fragments if not (part.hidden or part.quoted))
    if not new.strip():
        return text.strip(), ""
    # A signature is neither: it stays with the new text, where it says who writes.
    old = "\n".join(part.content for part in fragments if part.quoted or part.headers)
    return new.strip(), old.strip()


# Its search for "On ... wrote:" takes time with the square of how often "On" occurs (measured).
_MAX_SPLIT, _MAX_ON = 50_000, 15


def _split_by_marks(text: str) -> tuple[str, str]:
    lines = text.split("\n")
    new = "\n".join(line for line in lines if not line.startswith(">")).strip()
    old = "\n".join(line for line in lines if line.startswith(">")).strip()
    return (new, old) if new else (text.strip(), "")
