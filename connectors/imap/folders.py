"""Finding the folder for a purpose: by SPECIAL-USE (RFC 6154), by its usual names, or a new one."""

from __future__ import annotations

import contextlib

from connectors.imap.client import FolderName, ImapClient, Refused

_USUAL = {
    "Drafts": ("drafts", "draft"),
    "Sent": ("sent", "sent items", "sent messages", "sent mail"),
}
_NOT_THERE = {"\\noselect", "\\nonexistent"}


async def special_folder(client: ImapClient, use: str) -> str:
    """The folder for "Drafts" or "Sent"; made where there is none. Raises Refused where the
    server makes none either.
    """
    folders = [each for each in await client.folders() if not each.attributes & _NOT_THERE]
    for folder in folders:
        if f"\\{use.lower()}" in folder.attributes:
            return folder.name
    for folder in folders:
        if _last(folder) in _USUAL[use]:
            return folder.name
    with contextlib.suppress(Refused):
        await client.create(use)
        return use
    # Some servers keep everything beneath INBOX (RFC 2342: the personal namespace).
    delimiter = next((each.delimiter for each in folders if each.delimiter), "/")
    beneath = f"INBOX{delimiter}{use}"
    await client.create(beneath)
    return beneath


def _last(folder: FolderName) -> str:
    name = folder.name.lower()
    return name.rpartition(folder.delimiter)[2] if folder.delimiter else name
