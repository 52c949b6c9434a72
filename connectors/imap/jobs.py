"""What others want done on the working connection, in the order in which they asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from connectors.imap.client import ConnectionLost, ImapClient
from daemon.errors import Unavailable

T = TypeVar("T")


class Jobs:
    """A queue that is open while there is a connection. `rung` is set with each new job."""

    def __init__(self, rung: asyncio.Event) -> None:
        self.closed: str = "the mailbox is not connected"  # why it takes none; empty: it does
        self._rung = rung
        self._waiting: deque[_Job] = deque()

    async def put(self, run: Callable[[ImapClient], Awaitable[T]]) -> T:
        """Its result. A caller that is cancelled leaves a job that has begun to end by itself.
        Raises Unavailable, and what the job raises.
        """
        if self.closed:
            raise Unavailable(self.closed)
        job = _Job(run)
        self._waiting.append(job)
        self._rung.set()
        result: T = await job.done
        return result

    async def carry_out(self, client: ImapClient, folder: str) -> None:
        """Do all that wait, each one with `folder` selected. Raises ConnectionLost."""
        while self._waiting:
            if client.folder != folder:
                await client.select(folder)
            await self._waiting.popleft().carry_out(client)

    def close(self, reason: str) -> None:
        self.closed = reason
        while self._waiting:
            self._waiting.popleft().fail(Unavailable(reason))


class _Job:
    def __init__(self, run: Callable[[ImapClient], Awaitable[Any]]) -> None:
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._run = run

    async def carry_out(self, client: ImapClient) -> None:
        if self.done.done():
            return
        try:
            result = await self._run(client)
        except asyncio.CancelledError:
            self.fail(Unavailable("the mailbox was closed meanwhile"))
            raise
        except Exception as error:  # it belongs to whoever wanted the work
            self.fail(error)
            if isinstance(error, ConnectionLost):
                raise
        else:
            if not self.done.done():
                self.done.set_result(result)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)
