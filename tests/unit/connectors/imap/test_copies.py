"""Mails that were taken, until Sent has them: on the disk first, filed later, given up at last."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from connectors.imap.client import Refused
from connectors.imap.copies import PATIENCE_SECONDS, Copies, Taken
from connectors.imap.outbound import Place
from daemon.clock import SystemClock
from daemon.errors import PostroomError, Unavailable
from daemon.model import EffectId

EFFECT = EffectId("eff-1")


class Sent:
    """A Sent folder; `failures` are what it answers first."""

    def __init__(self, *failures: PostroomError) -> None:
        self.mails: dict[str, bytes] = {}
        self.answered: list[Place] = []
        self.tried = 0
        self._failures = list(failures)

    async def file_copy(self, message_id: str, raw: bytes) -> None:
        self.tried += 1
        if self._failures:
            raise self._failures.pop(0)
        self.mails[message_id] = raw

    async def mark_answered(self, mails: Sequence[Place]) -> None:
        self.answered += mails


def copies(folder: Path, sent: Sent) -> Copies:
    return Copies(folder, sent, SystemClock(), after=0.0, again=0.0)


def _waiting(folder: Path) -> list[Path]:
    return list(folder.glob("*.sent"))


async def test_what_is_forgotten_is_never_filed(tmp_path: Path) -> None:
    sent = Sent()
    made = copies(tmp_path, sent)
    for effect in ("eff-1", "eff-2"):
        await made.keep(EffectId(effect), Taken(f"<{effect}@b>", b"body"))
    assert sorted(await made.kept()) == ["eff-1", "eff-2"]
    await made.forget(EFFECT)
    await made.forget(EFFECT)  # it may have been filed meanwhile
    await filed(made, tmp_path)
    assert list(sent.mails) == ["<eff-2@b>"]


async def filed(made: Copies, folder: Path) -> None:
    """Until nothing waits any more."""
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(20):
        while _waiting(folder):
            await asyncio.sleep(0.01)
    running.cancel()


async def test_what_was_kept_is_known_in_the_next_life_and_filed(tmp_path: Path) -> None:
    places = [["INBOX", 7, 12, "<one@example.com>"]]
    taken = Taken("<a@b>", b"From: x\n\nbody\n", places)
    await copies(tmp_path, Sent()).keep(EFFECT, taken)
    sent = Sent()
    after = copies(tmp_path, sent)
    assert await after.has(EFFECT)
    assert not await after.has(EffectId("eff-2"))
    await filed(after, tmp_path)
    assert sent.mails == {"<a@b>": b"From: x\n\nbody\n"}
    assert sent.answered == places
    assert not await after.has(EFFECT)


@pytest.mark.parametrize("failure", [Refused("NO over quota"), Unavailable("not connected")])
async def test_a_copy_is_tried_until_it_is_there(failure: PostroomError, tmp_path: Path) -> None:
    sent = Sent(failure, failure)
    made = copies(tmp_path, sent)
    await made.keep(EFFECT, Taken("<a@b>", b"raw"))
    await filed(made, tmp_path)
    assert (list(sent.mails), sent.tried) == (["<a@b>"], 3)
    assert made.trouble == ""


async def test_a_copy_that_nobody_takes_is_given_up_in_the_end(tmp_path: Path) -> None:
    sent = Sent(Refused("NO"))
    made = copies(tmp_path, sent)
    await made.keep(EFFECT, Taken("<a@b>", b"raw"))
    long_ago = SystemClock().now() - PATIENCE_SECONDS - 1
    os.utime(tmp_path / "eff-1.sent", (long_ago, long_ago))
    await filed(made, tmp_path)
    assert sent.tried == 1


async def test_one_copy_that_is_refused_holds_up_no_other(tmp_path: Path) -> None:
    sent = Sent(Refused("NO too large"))
    made = copies(tmp_path, sent)
    await made.keep(EFFECT, Taken("<a@b>", b"large"))
    await made.keep(EffectId("eff-2"), Taken("<c@d>", b"small"))
    os.utime(tmp_path / "eff-1.sent", (1, SystemClock().now() - 60))
    await filed(made, tmp_path)
    assert list(sent.mails) == ["<c@d>", "<a@b>"]


async def test_a_half_written_file_is_no_copy(tmp_path: Path) -> None:
    (tmp_path / "eff-1.part").write_bytes(b'["<a@b>", []]\nhal')
    made = copies(tmp_path, Sent())
    assert not await made.has(EFFECT)
    await filed(made, tmp_path)
