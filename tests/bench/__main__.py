"""The benchmark: `python -m tests.bench [PART...]`; without a part, all of them.

Both sides of a row run in the same minutes on the same machine, in turns; what matters is how they
compare. Nothing here is a test: no figure fails a run.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from daemon.agents import cli_version
from tests.bench import chat, gateway, launcher, ledger, life, mail, weight
from tests.bench.rows import Row, table
from tests.bench.standin import model

Part = Callable[[Path, str], Awaitable[list[Row]]]

PARTS: dict[str, Part] = {
    "live": chat.live,
    "fresh": chat.fresh,
    "burst": chat.burst,
    "ledger": ledger.ledger,
    "acks": chat.acks,
    "mail": mail.mail,
    "gateway": gateway.gateway,
    "launcher": launcher.launcher,
    "starts": life.starts,
    "memory": weight.memory,
    "request": weight.request,
}


async def run(names: Sequence[str]) -> None:
    print(machine(), flush=True)
    rows: list[Row] = []
    for name in names:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as directory:
            async with model() as url:
                found = await PARTS[name](Path(directory), url)
        rows += found
        print(f"\n{name} ({time.monotonic() - began:.0f} s)\n{table(found)}", flush=True)
    if len(names) > 1:
        print(f"\nall\n{table(rows)}")


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{time.strftime('%Y-%m-%d %H:%M')} {platform.system()} {platform.release()}, "
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, "
        f"CLI {cli_version()}, load {load}"
    )


def alone() -> None:
    """Nothing ambient: neither side's processes inherit more than what every shell has."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    os.environ.clear()
    os.environ.update(kept)


if __name__ == "__main__":
    wanted = sys.argv[1:] or [*PARTS]
    if unknown := [name for name in wanted if name not in PARTS]:
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    alone()
    asyncio.run(run(wanted))
