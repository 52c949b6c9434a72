"""Mailboxes: mail in over IMAP, answers out over SMTP or into Drafts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectors.imap.connector import PLUGIN as PLUGIN


def __getattr__(name: str) -> Any:
    """`PLUGIN`, on demand: the parsing process imports this package too, and needs only parse.py
    (measured: 24 MB instead of 52 MB resident).
    """
    if name != "PLUGIN":
        raise AttributeError(name)
    from connectors.imap.connector import PLUGIN  # noqa: PLC0415

    return PLUGIN
