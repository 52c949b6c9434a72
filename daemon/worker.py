"""A worker: the one task that owns a conversation's live agent process and runs its turns."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from daemon import texts
from daemon.clock import Clock
from daemon.endings import Endings
from daemon.errors import AgentDied, LedgerError, StartFailed
from daemon.metrics import Metrics
from daemon.model import Prompt, Turn, Workspace, prompt_uuid
from daemon.ports import (
    Agent,
    AgentEvent,
    Agents,
    AlreadySeen,
    Connector,
    Gateway,
    Ledger,
    ModelAnswered,
    ModelAsked,
    ModelRetry,
    Refusal,
    ShowsActivity,
    TextDelta,
    ToolUsed,
    TurnEnded,
    TurnStarted,
)
from daemon.prompts import prompt_text
from daemon.tools import StagingGate

log = structlog.get_logger()

SILENCE_SECONDS = 25.0  # nothing from the model for so long: the person is told (within 30 s)
INTERRUPT_GRACE_SECONDS = 5.0
TOOLS_KEPT = 200  # of one attempt, for its trace


@dataclass(slots=True)
class Live:
    """A process that is up, with what was made together with it."""

    agent: Agent
    token: str
    gate: StagingGate
    workspace: Workspace


@dataclass(frozen=True, slots=True)
class Surround:
    """What all workers share. Times in seconds."""

    ledger: Ledger
    agents: Agents
    gateway: Gateway
    endings: Endings
    clock: Clock
    metrics: Metrics
    connector: Callable[[str], Connector]
    turn_timeout: float
    max_turns: int


class Worker:
    """One conversation's process. `run_turn` belongs to one task; `stop` may come from any."""

    def __init__(self, around: Surround, start: Callable[[Turn], Awaitable[Live]]) -> None:
        self._around = around
        self._start = start
        self.live: Live | None = None
        self._running = False
        self._stopping = False
        self._outgrown = False
        self._told = False
        self._attempt = 0
        self._first_text: float | None = None
        self._tools: list[tuple[float, str]] = []
        self._interrupting: asyncio.Task[None] | None = None
        self._silence: asyncio.Task[None] | None = None
        self._signs: set[asyncio.Task[None]] = set()

    async def run_turn(self, turn: Turn, after: asyncio.Task[None] | None = None) -> None:
        """Run a claimed turn to whatever end it has, once `after` has ended (the process whose slot
        this is leaves). Raises LedgerError when its end could not be written: the turn is still
        `running` then.
        """
        self._running, self._told = True, turn.told
        self._first_text, self._attempt = None, turn.attempt
        self._tools.clear()
        began = self._around.clock.monotonic()
        self._show(turn, texts.WORKING)  # again where it waited: what ended before took it away
        with structlog.contextvars.bound_contextvars(
            turn=turn.id, conversation=turn.conversation, connector=turn.connector
        ):
            try:
                outcome = await self._run(turn, after)
            except LedgerError:
                raise
            except Exception:  # the turn boundary: a defect of ours must not take the pool along
                log.exception("turn.broke")
                await self.close()
                outcome = await self._around.endings.by_fate(turn, "internal error", failed=True)
            finally:
                self._running = self._stopping = self._outgrown = False
            self._show(turn, "")
            self._sum_up(turn, outcome, began)

    def stop(self) -> None:
        """End the turn that runs, or is about to, at a person's wish."""
        self._stopping = True
        if self._running:
            self._interrupting = asyncio.create_task(self._interrupt(), name="interrupt")

    def stop_writing(self) -> None:
        """End the turn that runs, and its process: the conversation's files have outgrown their
        room.
        """
        if self._running and self.live is not None:
            self._outgrown = True
            self._interrupting = asyncio.create_task(self.live.agent.close(), name="outgrown")

    def stand_down(self) -> None:
        """The turn that was about to run is not there after all."""
        self._stopping = False

    async def close(self) -> None:
        """End the process; returns when it is gone."""
        live, self.live = self.live, None
        if live is not None:
            self._around.gateway.revoke(live.token)
            await live.agent.close()

    # --- one attempt ----------------------------------------------------------------------------

    async def _run(self, turn: Turn, after: asyncio.Task[None] | None) -> str:
        around = self._around
        if after is not None:
            await asyncio.wait({after})
        if self._stopping:
            return await around.endings.stopped(turn)
        if (outcome := await self._not_now(turn)) is not None:
            return outcome
        try:
            self.live = live = self.live or await self._start(turn)
        except StartFailed as error:
            log.warning("agent.start_failed", detail=str(error))
            if self._stopping:
                return await around.endings.stopped(turn)
            return await around.endings.later(
                turn, texts.START_TROUBLE, f"start failed: {error}", sent=False, told=self._told
            )
        end: TurnEnded | AlreadySeen | None = None
        died = ""
        try:
            turn, prompt = await self._begin(turn, live)
            if self._stopping:
                return await around.endings.stopped(turn)
            end = await self._listen(turn, live, prompt)
        except AgentDied as error:
            died = str(error)
        except TimeoutError:
            died = f"over its clock of {around.turn_timeout:g} s"
        finally:
            live.gate.close()
            refusal = await around.gateway.close_turn(live.token)
        await self._note_tools(turn)
        if end is None:
            return await self._after_death(turn, died)
        return await self._after_end(turn, end, refusal)

    async def _not_now(self, turn: Turn) -> str | None:
        """Put a turn back that the model may not be asked for, before it costs a process."""
        around = self._around
        refusal = await around.gateway.refusal(turn)
        if refusal is not None:
            budget = refusal.budget
            return await around.endings.refused(turn, budget, sent=False)
        if around.gateway.rests() > SILENCE_SECONDS:
            why = "the model asked for a rest"
            return await around.endings.later(
                turn, texts.MODEL_AWAY, why, sent=False, told=turn.told
            )
        return None

    async def _begin(self, turn: Turn, live: Live) -> tuple[Turn, Prompt]:
        """Commit the attempt, before its prompt is sent."""
        attempt = turn.attempt if turn.resend and turn.attempt else turn.attempt + 1
        text = prompt_text(turn, attempt, await self._history(turn))
        await self._around.ledger.begin_attempt(turn.id, attempt, live.agent.process)
        self._attempt = attempt
        turn = replace(turn, attempt=attempt, resend=False)
        self._around.gateway.open_turn(live.token, turn)
        live.gate.open(turn, attempt)
        return turn, Prompt(prompt_uuid(turn.id, attempt), text)

    async def _listen(self, turn: Turn, live: Live, prompt: Prompt) -> TurnEnded | AlreadySeen:
        """Read the process's events. Raises AgentDied, or TimeoutError past the turn's clock."""
        self._await_model(turn)
        try:
            async with asyncio.timeout(self._around.turn_timeout):
                async for event in live.agent.turn(prompt):
                    if isinstance(event, TurnEnded | AlreadySeen):
                        return event
                    self._on_event(turn, event)
        finally:
            self._model_is_there()
        raise AgentDied("the process's messages ended without a result")

    def _on_event(self, turn: Turn, event: AgentEvent) -> None:
        match event:
            case TextDelta():
                self._model_is_there()
                if self._first_text is None:
                    self._first_text = self._around.clock.monotonic()
            case ToolUsed(name, tool_use_id):
                self._model_is_there()
                log.info("tool.used", tool=name, tool_use_id=tool_use_id)
                if len(self._tools) < TOOLS_KEPT:
                    self._tools.append((self._around.clock.now(), name[:60]))
                self._show(turn, texts.USING.format(tool=name.rpartition("__")[2]))
            case ModelAnswered():
                self._model_is_there()
            case ModelAsked():
                self._await_model(turn)
            case ModelRetry(status):
                log.warning("model.retried", status=status)
                self._await_model(turn)
            case TurnStarted() | TurnEnded() | AlreadySeen():
                pass

    async def _note_tools(self, turn: Turn) -> None:
        if self._tools:
            await self._around.ledger.note_tools(turn.id, self._tools)

    async def _after_end(
        self, turn: Turn, end: TurnEnded | AlreadySeen, refusal: Refusal | None
    ) -> str:
        endings = self._around.endings
        match end:
            case AlreadySeen():
                return await endings.by_fate(turn, "the CLI took its uuid for done")
            case TurnEnded(error=None):
                return await endings.done(turn, end.text)
            case TurnEnded() if self._stopping:
                return await endings.stopped(turn)
            case TurnEnded() if self._outgrown:
                await self.close()
                return await endings.outgrown(turn)
            case TurnEnded() if refusal is not None:
                return await endings.refused(turn, refusal.budget, sent=True)
            case TurnEnded(error="max_turns"):
                return await endings.out_of_steps(turn, end.text, self._around.max_turns)
            case TurnEnded(error="api"):
                why = f"the model answered {end.status}"
                return await endings.later(turn, texts.MODEL_AWAY, why, sent=True, told=self._told)
        why = f"{end.error}: {end.detail}"[:500]
        log.warning("turn.attempt_failed", detail=why)
        return await endings.by_fate(turn, why, failed=True)

    async def _after_death(self, turn: Turn, why: str) -> str:
        log.warning("agent.died", detail=why)
        await self.close()  # returns when it is gone: only then may the transcript be read
        if self._stopping:
            return await self._around.endings.stopped(turn)
        if self._outgrown:
            return await self._around.endings.outgrown(turn)
        return await self._around.endings.by_fate(turn, why, failed=True)

    # --- small things ---------------------------------------------------------------------------

    async def _interrupt(self) -> None:
        """Ask the process to end its turn; one that does not listen is closed. The model is not
        asked any more at once, neither by it nor by what it has started.
        """
        live = self.live
        if live is None:
            return
        self._around.gateway.halt(live.token)
        try:
            async with asyncio.timeout(INTERRUPT_GRACE_SECONDS):
                await live.agent.interrupt()
        except (AgentDied, TimeoutError):
            log.warning("agent.interrupt_failed")
            await live.agent.close()

    def _await_model(self, turn: Turn) -> None:
        """The model is asked and has not answered yet: its silence counts from the first time."""
        if self._silence is None:
            self._silence = asyncio.create_task(self._tell_of_silence(turn), name="silence")

    def _model_is_there(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    async def _tell_of_silence(self, turn: Turn) -> None:
        await self._around.clock.sleep(SILENCE_SECONDS)
        if not self._told:
            self._told = True
            with contextlib.suppress(LedgerError):  # the turn itself will meet the same trouble
                await self._around.endings.say(turn, texts.MODEL_AWAY, "later")

    async def _history(self, turn: Turn) -> tuple[str, ...]:
        """What was said before, where the session's transcript is lost."""
        if turn.fresh or turn.attempt or self._around.agents.has_transcript(turn.workspace):
            return ()
        return await self._around.ledger.said(turn.conversation, turn.id)

    def _show(self, turn: Turn, text: str) -> None:
        """Nobody waits for a sign: neither the turn nor the slot."""
        connector = self._around.connector(turn.connector)
        if isinstance(connector, ShowsActivity):
            target = turn.messages[-1].message.target
            sign = asyncio.create_task(connector.show_activity(target, text), name="sign")
            self._signs.add(sign)
            sign.add_done_callback(self._signs.discard)

    def _sum_up(self, turn: Turn, outcome: str, began: float) -> None:
        seconds = self._around.clock.monotonic() - began
        self._around.metrics.turns.labels(outcome).inc()
        self._around.metrics.turn_seconds.observe(seconds)
        log.info(
            "turn.finished",
            outcome=outcome,
            attempt=self._attempt,
            failures=turn.failures,
            messages=len(turn.messages),
            seconds=round(seconds, 3),
            to_first_text=round(self._first_text - began, 3) if self._first_text else None,
        )
