"""The stand-in model as a process of its own, so that neither side pays for its work.

`python -m tests.bench.standin` prints its address and answers `ok` at once until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daemon.demo.model import StandInModel
from daemon.demo.script import directed

KEY = "sk-ant-stand-in-key-of-the-benchmark"


async def serve() -> None:
    async with StandInModel(directed, api_key=KEY, bodies=False) as model:
        print(model.url, flush=True)
        await asyncio.Event().wait()


@asynccontextmanager
async def model() -> AsyncIterator[str]:
    """Its address. Raises RuntimeError where it does not start."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.standin", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise RuntimeError("the stand-in model did not start")
        yield url
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(serve())
