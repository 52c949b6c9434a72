"""How long the daemon takes to begin: from its process's start to what people rely on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.bench.rows import Row, at_most, quantile
from tests.bench.stage import PATIENCE, PERSON, Stage, daemon_on, slack_workspace

IMPORTS = "import claude_agent_sdk, slack_bolt.async_app, aiohttp.web"


async def starts(root: Path, url: str, samples: int = 8) -> list[Row]:
    """An event waits in Slack while the daemon is down; it is killed while an answer is due."""
    registering, ready, imports = [], [], []
    pool = {"max_processes": 4, "spare_processes": 1}
    async with slack_workspace() as slack:
        daemon = daemon_on(root, slack, url, pool=pool)
        standing = Stage(slack, daemon)
        async with daemon:
            await standing.answered(standing.begin(0))
            for number in range(1, samples + 1):
                imports.append(_import_time())
                await standing.until_rested(spare=1)
                said, _ = standing.begin(number)
                await slack.wait_for_ack(said)
                await daemon.kill()

                began = time.perf_counter()
                await daemon.start(ready=False)
                await daemon.until_ready(PATIENCE)
                ready.append(time.perf_counter() - began)
                await standing.answered((said, began))

                await standing.until_rested(spare=1)
                await daemon.stop()
                held = slack.mention(PERSON, standing.channel(number + 100), "hello")
                began = time.perf_counter()
                await daemon.start(ready=False)
                await slack.wait_for_ack(held, within=PATIENCE)
                registering.append(time.perf_counter() - began)
                await standing.answered((held, began))
    plain = quantile(imports, 50)
    beside = "importing its libraries (peers: 1.5 to 3.4 s)"
    return [
        Row("process start -> registering, p50", beside, quantile(registering, 50), plain, "s",
            samples, at_most(1.0)),
        Row("kill -9 -> ready, p50", beside, quantile(ready, 50), plain, "s",
            samples, at_most(2.0)),
    ]  # fmt: skip


def _import_time() -> float:
    """Seconds that a Python takes which imports the libraries, does nothing and ends."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - began
