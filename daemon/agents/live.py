"""One live agent: a CLI process, the one reader of its messages, its turns and its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from claude_agent_sdk import ClaudeSDKClient, Message, ProcessError

from daemon.agents.messages import TurnView, session_state
from daemon.errors import AgentDied
from daemon.isolation import processes
from daemon.model import ProcessRef, Prompt
from daemon.ports import AgentEvent

log = structlog.get_logger()

SETTLE_SECONDS = 0.5  # after an `idle` without a start: a start that is on its way comes within it
RESULT_SECONDS = 10.0  # after an `idle` with a start: the result comes with it (measured: 4 ms)
REST_SECONDS = 30.0  # from a result to the `idle` after it (measured: 4 ms)
INTERRUPT_AGAIN_SECONDS = 0.25  # one that arrives before its turn has begun is lost (measured)
BUSY_CLOSE_SECONDS = 1.0
DISCONNECT_SECONDS = 2.0
END_GRACE_SECONDS = 1.0


class ClaudeAgent:
    """The port `Agent` over a connected client. Made by `ClaudeAgents.start`."""

    def __init__(
        self,
        client: ClaudeSDKClient,
        process: ProcessRef,
        on_gone: Callable[[], None],
        *,
        quiet: float,
        answer: float,
    ) -> None:
        self.process = process
        self._client = client
        self._on_gone = on_gone
        self._quiet = quiet
        self._answer = answer
        self._idle = asyncio.Event()
        self._idle.set()
        self._inbox: asyncio.Queue[Message | AgentDied] | None = None
        self._death: AgentDied | None = None
        self._interrupted = False
        self._closing: asyncio.Task[None] | None = None
        # For the whole life of the client: when nobody reads, its tools and hooks stall, too.
        self._reader = asyncio.create_task(self._read(), name=f"agent {process.pid}")

    async def turn(self, prompt: Prompt) -> AsyncIterator[AgentEvent]:
        """Send a prompt and read until TurnEnded or AlreadySeen. Raises AgentDied."""
        await self._rest()
        view, self._interrupted = TurnView(prompt.uuid), False
        inbox = self._inbox = asyncio.Queue()
        self._idle.clear()
        try:
            await self._send(prompt)
            while not view.ended:
                for event in await self._next(view, inbox):
                    if view.ended:
                        self._inbox = None  # whoever reads may stop at this event
                    yield event
        finally:
            if self._inbox is inbox:
                self._inbox = None

    async def interrupt(self) -> None:
        """End the running turn, and return when the CLI is idle. Raises AgentDied."""
        self._interrupted = True
        while not self._idle.is_set():
            try:
                await self._client.interrupt()
            except Exception as error:  # control requests raise bare Exception
                raise AgentDied(f"it took no interrupt: {describe(error)}") from error
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERRUPT_AGAIN_SECONDS):
                    await self._idle.wait()
        if self._death is not None:
            raise self._death

    async def close(self) -> None:
        """Return when the process and all that came of it are gone, even when cancelled."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name=f"end {self.process.pid}")
        await finish(self._closing)

    # --- reading --------------------------------------------------------------------------------

    async def _read(self) -> None:
        death = AgentDied("its messages ended")
        try:
            async for message in self._client.receive_messages():
                self._take(message)
        except Exception as error:  # noqa: BLE001 - whatever ends the stream is the agent's death
            death = AgentDied(describe(error))
        finally:
            self._death = death
            self._idle.set()
            if self._inbox is not None:
                self._inbox.put_nowait(death)

    def _take(self, message: Message) -> None:
        state = session_state(message)
        if state == "idle":
            self._idle.set()
        elif state == "running":
            self._idle.clear()
        if self._inbox is not None:
            self._inbox.put_nowait(message)

    async def _next(
        self, view: TurnView, inbox: asyncio.Queue[Message | AgentDied]
    ) -> tuple[AgentEvent, ...]:
        patience = self._quiet
        if view.quiet:
            patience = RESULT_SECONDS if view.started else SETTLE_SECONDS
        try:
            async with asyncio.timeout(patience):
                message = await inbox.get()
        except TimeoutError:
            if not view.quiet:
                await self._show_life()
                return ()
            event = view.give_up(interrupted=self._interrupted)
            if event is None:
                raise AgentDied("it went idle without a result") from None
            return (event,)
        if isinstance(message, AgentDied):
            raise message
        return view.feed(message)

    async def _show_life(self) -> None:
        """Silence is no fault: a tool may work for long, the model may think. A process that does
        not answer either is frozen. Raises AgentDied.
        """
        try:
            async with asyncio.timeout(self._answer):
                await self._client.get_mcp_status()
        except TimeoutError:
            silent = self._quiet + self._answer
            raise AgentDied(f"it froze: not a word for {silent:g} s, asked or not") from None
        except Exception as error:  # the SDK's: an error is an answer, too
            if self._death is not None:
                raise self._death from error
            log.info("agent.sign_of_life", error=type(error).__name__)

    async def _rest(self) -> None:
        """Until the turn before is over for the CLI, too: two prompts may share one result."""
        try:
            async with asyncio.timeout(REST_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            raise AgentDied("it did not come to rest after its last turn") from None
        if self._death is not None:
            raise self._death

    async def _send(self, prompt: Prompt) -> None:
        async def one() -> AsyncIterator[dict[str, Any]]:
            yield {
                "type": "user",
                "uuid": prompt.uuid,
                "parent_tool_use_id": None,
                "message": {"role": "user", "content": prompt.text},
            }

        try:
            await self._client.query(one())
        except Exception as error:  # a dead process, a closed pipe, or whatever the SDK raises
            raise AgentDied(f"it took no prompt: {describe(error)}") from error

    # --- ending ---------------------------------------------------------------------------------

    async def _close(self) -> None:
        if not self._idle.is_set():
            with contextlib.suppress(Exception):  # the end comes in any case
                async with asyncio.timeout(BUSY_CLOSE_SECONDS):
                    await self.interrupt()
        # A cancelled disconnect leaks the CLI and its tools (measured): it has its own task.
        leaving = asyncio.create_task(self._client.disconnect(), name="disconnect")
        await asyncio.wait({leaving}, timeout=DISCONNECT_SECONDS)
        gone = await processes.end(self.process, END_GRACE_SECONDS)
        if not gone:
            log.error("agent.not_killable", pid=self.process.pid)
        await asyncio.wait({leaving})  # its own steps are bounded
        if not leaving.cancelled() and (error := leaving.exception()) is not None:
            log.warning("agent.disconnect_failed", detail=describe(error))
        self._reader.cancel()
        await asyncio.wait({self._reader})
        if gone:
            self._on_gone()


async def finish(task: asyncio.Task[None]) -> None:
    """Wait for a task to its end, also when cancelled meanwhile; the cancellation comes after."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("agent.end_failed", detail=describe(error))


def describe(error: BaseException) -> str:
    """For logs: kinds and exit codes only, as messages may quote the conversation."""
    if isinstance(error, ProcessError):
        return f"{type(error).__name__} (exit {error.exit_code})"
    return type(error).__name__
