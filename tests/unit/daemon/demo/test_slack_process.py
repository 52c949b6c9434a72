"""The Slack stand-in in a process of its own, driven from outside."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import aiohttp
import pytest


@pytest.mark.e2e
async def test_it_serves_and_keeps_a_journal_until_it_is_told_to_end(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daemon.demo.slack", "--journal", str(journal),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout
        async with asyncio.timeout(30):
            facts = json.loads(await process.stdout.readline())
        base = facts["api_url"].removesuffix("/api/")
        order = {"do": "dm", "user": "U0002", "text": "from outside"}
        async with aiohttp.ClientSession() as http:
            async with http.post(f"{base}/_/control", json=order) as answer:
                said = (await answer.json())["result"]
            async with http.get(f"{base}/_/messages", params={"channel": "D0002"}) as answer:
                assert [message["ts"] for message in await answer.json()] == [said["ts"]]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [entry["kind"] for entry in entries[:2]] == ["post", "event"]
    assert entries[0]["text"] == "from outside"
