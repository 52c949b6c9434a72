"""The demo day's script: a helpful colleague at a desk, who answers by keywords. Not a model.

It knows a few facts of an invented shop, does small jobs with the tools that the request offers
(counting, writing and reading files), and reports what the tool returned. Directives of `script.py`
come first.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from daemon.demo.script import Ask, Reply, ToolCall, follow, read_ask

FACTS: tuple[tuple[str, str], ...] = (
    (
        r"opening hours|\bopen(s|ed)?\b|\bhours\b",
        "We are open Monday to Friday from 9:00 to 18:00, and on Saturday from 10:00 to 14:00.",
    ),
    (
        r"refund|return(ing|ed)?\b|send .* back|money back",
        (
            "Goods can be returned within 30 days with the receipt. The money is back on the "
            "account within 5 working days after the parcel has arrived."
        ),
    ),
    (
        r"deliver(y|ed)?\b|shipping|parcel|\btrack(ing)?\b|where is my order",
        (
            "Orders leave the same day when they come in before 14:00, and take 2 working days. "
            "The tracking link is in the shipping confirmation."
        ),
    ),
    (
        r"invoice|billing|\bvat\b",
        (
            "Invoices go out by mail on the first working day of the month. For a copy, the order "
            "number is enough."
        ),
    ),
    (
        r"vacation|holiday|\bleave\b|day off",
        (
            "Leave is requested in the calendar, two weeks ahead where possible; the team lead "
            "confirms it there."
        ),
    ),
    (
        r"password|\blog ?in\b|locked out|\bvpn\b|account",
        (
            "A new password can be set at the sign-in page under 'Forgot password'; the link is "
            "valid for one hour. If the account is locked, it opens again after 15 minutes."
        ),
    ),
    (
        r"printer|toner",
        (
            "Please switch the printer off for 10 seconds and try again. Toner is in the cupboard "
            "beside it; if that does not help, facilities will look at it today."
        ),
    ),
    (
        r"meeting|agenda|minutes of",
        (
            "A short agenda that works: 1. what was decided last time, 2. what is in the way, "
            "3. who does what until when."
        ),
    ),
    (
        r"who are you|what can you do|\bhelp\b",
        (
            "I am the desk's scripted stand-in: I answer a few questions (hours, returns, "
            "delivery, invoices, leave, passwords) and can count things, write files and read them."
        ),
    ),
    (r"\bthank(s| you)\b|\bthx\b", "You are welcome. I am here if there is more."),
    (
        r"^\W*(hello|hi|hey|good (morning|afternoon|evening))\b",
        "Hello! What can I do for you?",
    ),
)
FALLBACK = (
    "I have read your message and noted it. As a scripted stand-in I have no better answer to it; "
    "a real model would take it from here."
)
HEADING = re.compile(r"^\[[^\]\n]* \| [^\]\n]*\]\n|^Attachment .*\n|^Subject: ", re.MULTILINE)
"""What `daemon/prompts.py` puts before a message's text."""
NAME = r"[`'\"]?(?P<name>[\w][\w./-]*\.\w{1,8})[`'\"]?"
WRITE = re.compile(
    rf"\b(?:write|save|create|put)\b.*?{NAME}(?:.*?\b(?:saying|with|containing|that says)\b"
    r"(?: the (?:text|words|line))?:?\s*(?P<text>.+))?",
    re.IGNORECASE | re.DOTALL,
)
READ = re.compile(rf"\b(?:read|show|open|look at|what is in)\b.*?{NAME}", re.IGNORECASE)
COUNT = re.compile(
    rf"\b(?:count|how many)\b.*?\b(?P<what>lines?|words?|characters?)\b.*?\b(?:in|of)\b\s+"
    rf"(?:the (?:file|text|sentence)\s+)?(?:{NAME}|[`'\"](?P<quoted>[^`'\"]+)[`'\"])",
    re.IGNORECASE | re.DOTALL,
)
FILES = re.compile(r"\b(?:count|how many|list|which)\b.*?\bfiles\b", re.IGNORECASE)


def colleague(body: Mapping[str, Any]) -> Reply:
    """The script of the demo day."""
    ask = read_ask(body)
    return follow(ask) or _work(ask) or Reply(answer(ask.prompt))


def answer(prompt: str) -> str:
    """What the colleague says to a prompt that needs no tool."""
    words = HEADING.sub("", prompt)
    said = [text for pattern, text in FACTS if re.search(pattern, words, re.IGNORECASE)]
    return "\n\n".join(said[:2]) or FALLBACK


def _work(ask: Ask) -> Reply | None:
    """A tool call for a small job, or the report of it once its result is there."""
    for plan in (_count, _files, _write, _read):
        found = plan(ask)
        if found is None:
            continue
        call, report = found
        if call.name not in ask.tools:
            return Reply(f"For that I would need the tool {call.name}, which I do not have here.")
        if not ask.results:
            return Reply("Let me look.", (call,))
        result = ask.results[0]
        if result.is_error:
            return Reply("That did not work here: the tool refused or failed.")
        return Reply(report(result.text.strip()))
    return None


Plan = tuple[ToolCall, Callable[[str], str]] | None


def _count(ask: Ask) -> Plan:
    if not (found := COUNT.search(ask.prompt)):
        return None
    what = found["what"].lower().rstrip("s")
    flag = {"line": "-l", "word": "-w", "character": "-m"}[what]
    if name := found["name"]:
        command, where = f"wc {flag} < {shlex.quote(name)}", name
    else:
        command, where = f"printf '%s\\n' {shlex.quote(found['quoted'])} | wc {flag}", "that text"
    call = ToolCall("Bash", {"command": command, "description": f"Count the {what}s"})
    return call, lambda result: f"I counted: {result} {what}(s) in {where}."


def _files(ask: Ask) -> Plan:
    if not FILES.search(ask.prompt):
        return None
    call = ToolCall("Bash", {"command": "ls -1", "description": "List the files"})

    def report(result: str) -> str:
        names = [line for line in result.splitlines() if line and not line.startswith("(")]
        listed = "".join(f"\n- {name}" for name in names[:20])
        return f"There are {len(names)} files in our folder.{listed}"

    return call, report


def _write(ask: Ask) -> Plan:
    if not (found := WRITE.search(ask.prompt)):
        return None
    name = found["name"]
    text = (found["text"] or "Noted by the desk.").strip().strip("`'\"") + "\n"
    path = f"{ask.workdir}/{name}" if ask.workdir else name
    call = ToolCall("Write", {"file_path": path, "content": text})
    return call, lambda _: f"Done: I wrote {name} ({len(text.split())} words)."


def _read(ask: Ask) -> Plan:
    if not (found := READ.search(ask.prompt)):
        return None
    name = found["name"]
    path = f"{ask.workdir}/{name}" if ask.workdir else name
    call = ToolCall("Read", {"file_path": path})
    return call, lambda result: f"This is in {name}:\n\n{_quote(result)}"


def _quote(text: str) -> str:
    """The first lines of a tool's result, without the line numbers that Read puts before them. It
    numbers an empty last line, too; that one is left out.
    """
    lines = [re.sub(r"^\s*\d+(?:→|\t|$)", "", line) for line in text.splitlines()[:20]]
    return "\n".join(f"> {line}" for line in lines).removesuffix("\n> ")
