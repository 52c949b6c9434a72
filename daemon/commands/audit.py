"""`postroom audit`: the records of who asked, decided and did what, and whether they are whole.

It reads the ledger itself, whether a daemon runs or not: whoever may read the data directory may.
"""

from __future__ import annotations

import json

import typer

from daemon.anchoring import FILE, parse_anchor, read_anchor
from daemon.commands import asking
from daemon.config import Config
from daemon.errors import WrongUsage
from daemon.ledger import ReadOnlyLedger
from daemon.model import AuditFindings, AuditHead

PAGE = 1000  # records that are read at once


def verify(config: Config, anchors: list[str], *, as_json: bool) -> int:
    """Walk the chain and look for the anchors in it: the file's, and those given as "SEQ:HASH" from
    a log. 1 where it is not whole.
    """
    given = [_parsed(text) for text in anchors]
    faults: list[str] = []
    try:
        # Before the ledger is read: what was anchored is in it by then.
        beside = read_anchor(config.daemon.data_dir)
    except (ValueError, OSError):
        beside = None
        faults.append(f"{FILE} in the data directory cannot be read")
    else:
        if beside is None:
            faults.append(f"there is no {FILE} in the data directory: the end cannot be proven")
    known = [*given, *([beside] if beside else [])]
    found = asking.from_ledger(config, lambda ledger: ledger.verify_audit(known))
    faults += found.faults
    if as_json:
        typer.echo(json.dumps(_as_json(found, faults), indent=2))
    else:
        for fault in faults:
            typer.echo(fault)
        typer.echo(_summary(found, faults))
    return 1 if faults else 0


def export(config: Config, *, after: int, with_names: bool) -> int:
    """Print the records behind a number as JSON lines, oldest first."""

    async def pages(ledger: ReadOnlyLedger) -> int:
        names = await ledger.audit_names() if with_names else {}
        seq = after
        while page := await ledger.audit_after(seq, PAGE):
            for record in page:
                aliases = {str(record.get(key)) for key in ("by", "conversation", "about")}
                known = {alias: names[alias] for alias in sorted(aliases & names.keys())}
                line = {**record, "names": known} if with_names else record
                typer.echo(json.dumps(line, sort_keys=True, separators=(",", ":")))
            seq = int(str(page[-1]["seq"]))
        return 0

    return asking.from_ledger(config, pages)


def _parsed(text: str) -> AuditHead:
    try:
        return parse_anchor(text)
    except ValueError:
        raise WrongUsage(
            f"{text!r} is no anchor: write SEQ:HASH, as the log's `audit.anchored` has them"
        ) from None


def _as_json(found: AuditFindings, faults: list[str]) -> dict[str, object]:
    newest = {"seq": found.head.seq, "hash": found.head.hash} if found.head else None
    return {"whole": not faults, "records": found.records, "head": newest, "faults": faults}


def _summary(found: AuditFindings, faults: list[str]) -> str:
    ends = f", the newest {found.head}" if found.head else ""
    number = f"{len(faults)} fault{'' if len(faults) == 1 else 's'}"
    verdict = f"NOT whole: {number}" if faults else "whole"
    return f"the audit is {verdict}; {found.records} records{ends}"
