"""The pool: a bounded set of agent processes: live workers, warm spares, eviction, memory, disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import structlog

from daemon.clock import Clock
from daemon.errors import LedgerError, StartFailed
from daemon.metrics import Metrics
from daemon.model import (
    ConversationId,
    Priority,
    Profile,
    ReadyConversation,
    Trust,
    Turn,
    TurnState,
    Workspace,
)
from daemon.ports import Agents, Gateway
from daemon.quota import Quota
from daemon.tools import StagingGate
from daemon.worker import Live, Surround, Worker

log = structlog.get_logger()

SPARE_RETRY_SECONDS = 5.0
SPARE_REST_SECONDS = 1.0  # after a conversation began: its first turn needs the processor more
SPARE_DISPLACES_SECONDS = 60.0  # a worker that rests so long gives its slot to a spare
WATCH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The surface's [pool]; seconds and bytes."""

    max_processes: int
    spares: int
    start_parallelism: int
    idle_seconds: float
    memory_limit: int
    disk_limit: int


class Place(StrEnum):
    """Where a conversation's worker stands; each but `free` holds a slot."""

    BUSY = "busy"
    IDLE = "idle"
    CLOSING = "closing"


@dataclass(slots=True)
class Spare:
    """A conversation in waiting: workspace, token and process, made for `member`."""

    workspace: Workspace
    live: Live


@dataclass(slots=True)
class Slot:
    """A conversation's worker in the pool."""

    conversation: ConversationId
    worker: Worker
    place: Place
    used_at: float


@dataclass(slots=True)
class Seat:
    """A promise of a slot for one turn, made before the turn is claimed.

    `workspace` is what a conversation without one will adopt (None: it has one). `wait_for` is a
    closing process whose slot this seat takes over.
    """

    conversation: ConversationId
    slot: Slot
    workspace: Workspace | None
    spare: Spare | None = None
    wait_for: asyncio.Task[None] | None = None
    created: bool = False


@dataclass(slots=True)
class _Counts:
    starting_spares: int = 0
    starting_turns: int = 0
    start_failures: int = 0
    last_failure: str = ""


class Pool:
    """Slots are counted here and nowhere else. `run` owns every task that the pool starts."""

    def __init__(
        self,
        *,
        around: Surround,
        agents: Agents,
        gateway: Gateway,
        profiles: Callable[[Trust], Profile],
        make_gate: Callable[[], StagingGate],
        settings: PoolSettings,
        clock: Clock,
        metrics: Metrics,
        on_free: Callable[[ConversationId | None], None],
    ) -> None:
        self._around = around
        self._agents = agents
        self._gateway = gateway
        self._profiles = profiles
        self._make_gate = make_gate
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._on_free = on_free
        self._quota = Quota(agents, clock, settings.disk_limit)
        self._slots: dict[ConversationId, Slot] = {}
        self._leaving: dict[ConversationId, asyncio.Task[None]] = {}
        self._stranded: list[Turn] = []
        self._spares: list[Spare] = []
        self._counts = _Counts()
        self._starts = asyncio.Semaphore(settings.start_parallelism)
        self._tasks: set[asyncio.Task[None]] = set()
        self._spare_wanted = asyncio.Event()
        self._spare_at = 0.0
        self._idle = asyncio.Event()
        self.open = False

    # --- seats: synchronous, so that counting cannot be interrupted ------------------------------

    def has_room(self, priority: Priority) -> bool:
        """Whether a turn of this class could start now: the last slot of several is for chat."""
        kept = 1 if priority is not Priority.CHAT and self._settings.max_processes > 1 else 0
        ready = self._free() > 0 or bool(self._spares) or self._oldest_idle() is not None
        return self.open and ready and self._available() > kept

    def works_on(self, conversation: ConversationId) -> bool:
        slot = self._slots.get(conversation)
        return slot is not None and slot.place is Place.BUSY

    def offer(self, ready: ReadyConversation) -> Seat | None:
        """A seat for a conversation's next turn, or None: not now."""
        if not self.open or ready.id in self._leaving:
            return None  # two processes on one session would fork its transcript (measured)
        slot = self._slots.get(ready.id)
        if slot is not None:
            if slot.place is not Place.IDLE:
                return None
            if not ready.settled:  # erased: what this process remembers must not answer
                slot.place = Place.CLOSING
                self._spawn(self._retire(slot), "erased")
                return None
            slot.place = Place.BUSY
            return Seat(ready.id, slot, None)
        return self._seat_for_new(ready) if self.has_room(ready.priority) else None

    def _seat_for_new(self, ready: ReadyConversation) -> Seat | None:
        wanted = self._profiles(ready.trust)
        if not ready.settled and self._spares and serves(self._profiles(Trust.MEMBER), wanted):
            spare = self._spares.pop()
            slot = self._add_slot(ready.id)
            return Seat(ready.id, slot, spare.workspace, spare=spare, created=True)
        wait_for: asyncio.Task[None] | None = None
        if self._free() <= 0:
            wait_for = self._make_way()
            if wait_for is None:
                return None
        slot = self._add_slot(ready.id)
        return Seat(ready.id, slot, self._agents.new_workspace(), wait_for=wait_for, created=True)

    def give_back(self, seat: Seat) -> None:
        """The turn was not there after all."""
        if not seat.created:
            seat.slot.worker.stand_down()
            seat.slot.place = Place.IDLE
            return
        self._slots.pop(seat.conversation, None)
        if seat.spare is not None:
            self._spares.append(seat.spare)
        elif seat.workspace is not None:
            self._agents.erase(seat.workspace)

    def assign(self, seat: Seat, turn: Turn) -> None:
        """Run a claimed turn in its seat."""
        unused = seat.workspace is not None and seat.workspace.id != turn.workspace.id
        if seat.spare is not None and unused:
            self._spares.append(seat.spare)
            seat.spare = None
        elif seat.workspace is not None and unused:
            self._agents.erase(seat.workspace)
        self._spawn(self._serve(seat, turn), f"turn {turn.id}")
        if seat.created:
            self._spare_at = self._clock.monotonic() + SPARE_REST_SECONDS
        self._spare_wanted.set()

    def stop_turn(self, conversation: ConversationId) -> bool:
        """False: no turn of it runs, or is about to."""
        slot = self._slots.get(conversation)
        if slot is None or slot.place is not Place.BUSY:
            return False
        slot.worker.stop()
        return True

    async def end(self, workspaces: Iterable[Workspace]) -> None:
        """End the processes of workspaces that were erased; returns when they are gone."""
        running = self._agents.processes()
        unwanted = {running[each.id] for each in workspaces if each.id in running}
        for slot in list(self._slots.values()):
            live = slot.worker.live
            if live is None or live.agent.process not in unwanted:
                continue
            if slot.place is Place.IDLE:
                await self._retire(slot)
            else:
                slot.worker.stop()
                await live.agent.close()

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: keeps spares, closes what rests, watches memory, disk; then ends all."""
        self.open = True
        self._on_free(None)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_spares(), name="spares")
                group.create_task(self._watch(), name="watch")
                group.create_task(self._watch_disk(), name="disk")
        finally:
            self.open = False
            await self._close_all()

    async def drain(self, seconds: float) -> bool:
        """Start nothing more and give running turns their time. True: all have ended."""
        self.open = False
        deadline = self._clock.monotonic() + seconds
        while self._busy():
            self._idle.clear()
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            try:
                async with asyncio.timeout(left):
                    await self._idle.wait()
            except TimeoutError:
                return False
        return True

    def numbers(self) -> dict[str, int]:
        """For health and metrics."""
        places = [slot.place for slot in self._slots.values()]
        return {
            "busy": places.count(Place.BUSY),
            "idle": places.count(Place.IDLE),
            "closing": places.count(Place.CLOSING),
            "spare": len(self._spares),
            "starting": self._counts.starting_spares,
            "max": self._settings.max_processes,
        }

    @property
    def trouble(self) -> str:
        """What keeps processes from starting, or nothing."""
        return self._counts.last_failure if self._counts.start_failures >= 3 else ""

    # --- inside -----------------------------------------------------------------------------------

    async def _serve(self, seat: Seat, turn: Turn) -> None:
        slot = seat.slot
        try:
            if seat.spare is not None:
                slot.worker.live = seat.spare.live
            await slot.worker.run_turn(turn, after=seat.wait_for)
        except LedgerError:
            log.exception("turn.unwritten", turn=turn.id)
            await self._retire(slot)
            self._stranded.append(turn)
        else:
            await self._rest(slot)
        self._idle.set()
        self._on_free(turn.conversation)

    async def _rest(self, slot: Slot) -> None:
        slot.used_at = self._clock.monotonic()
        live = slot.worker.live
        if live is None:
            self._slots.pop(slot.conversation, None)
            return
        size = self._agents.memory_bytes(live.agent.process)
        if size > self._settings.memory_limit or not self.open:
            log.info("agent.recycled", conversation=slot.conversation, bytes=size)
            await self._retire(slot)
            return
        slot.place = Place.IDLE

    async def _retire(self, slot: Slot) -> None:
        """Close an idle worker's process; its slot is free when it is gone."""
        slot.place = Place.CLOSING
        await slot.worker.close()
        self._slots.pop(slot.conversation, None)
        self._on_free(slot.conversation)

    async def _evict(self, slot: Slot) -> None:
        """Close an idle worker whose slot has been given to another conversation already."""
        await slot.worker.close()
        self._leaving.pop(slot.conversation, None)
        self._on_free(slot.conversation)

    async def start(self, turn: Turn) -> Live:
        """Bring up a process for a turn whose conversation has none. Raises StartFailed."""
        reason = "resume" if self._agents.has_transcript(turn.workspace) else "new"
        profile = self._profiles(turn.trust)
        self._counts.starting_turns += 1
        try:
            return await self._start(turn.workspace, profile, reason)
        except StartFailed as error:
            if not error.fields.get("resume_refused"):
                raise
            log.warning("agent.resume_refused", conversation=turn.conversation)
            return await self._start(turn.workspace, profile, "new")  # told what was said before
        finally:
            self._counts.starting_turns -= 1
            self._spare_wanted.set()

    async def _start(self, workspace: Workspace, profile: Profile, reason: str) -> Live:
        token, gate = self._gateway.issue(), self._make_gate()
        async with self._starts:
            began = self._clock.monotonic()
            try:
                agent = await self._agents.start(workspace, profile, token, gate)
            except StartFailed as error:
                self._gateway.revoke(token)
                self._counts.start_failures += 1
                self._counts.last_failure = str(error)
                raise
            except BaseException:
                self._gateway.revoke(token)
                raise
        self._counts.start_failures = 0
        self._metrics.process_starts.labels(reason).inc()
        self._metrics.process_start_seconds.observe(self._clock.monotonic() - began)
        return Live(agent, token, gate, workspace)

    async def _keep_spares(self) -> None:
        while True:
            self._spare_wanted.clear()
            while self._spares_short():
                rest = self._spare_at - self._clock.monotonic()
                if rest > 0:
                    await self._clock.sleep(rest)
                    continue
                leaving = None
                if self._free() <= 0:
                    leaving = self._displace()
                    if leaving is None:
                        break
                self._counts.starting_spares += 1
                try:
                    if leaving is not None:
                        await asyncio.wait({leaving})
                    await self._add_spare()
                except StartFailed as error:
                    log.warning("spare.start_failed", detail=str(error))
                    await self._clock.sleep(SPARE_RETRY_SECONDS)
                finally:
                    self._counts.starting_spares -= 1
            await self._spare_wanted.wait()

    async def _add_spare(self) -> None:
        workspace = self._agents.new_workspace()
        try:
            live = await self._start(workspace, self._profiles(Trust.MEMBER), "spare")
        except BaseException:
            self._agents.erase(workspace)
            raise
        self._spares.append(Spare(workspace, live))
        self._on_free(None)

    def _spares_short(self) -> bool:
        return (
            self.open
            and self._counts.starting_turns == 0  # turns that wait for a process come first
            and len(self._spares) + self._counts.starting_spares < self._settings.spares
        )

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(WATCH_SECONDS)
            now = self._clock.monotonic()
            for slot in list(self._slots.values()):
                if slot.place is Place.IDLE and now - slot.used_at > self._settings.idle_seconds:
                    slot.place = Place.CLOSING
                    self._spawn(self._retire(slot), "idle")
                elif slot.place is Place.BUSY:
                    self._check_memory(slot)
            await self._settle_stranded()
            self._spare_wanted.set()
            self._publish()

    async def _settle_stranded(self) -> None:
        """Turns whose end could not be written, as the ledger was in trouble: by their fate."""
        while self._stranded:
            turn = self._stranded[0]
            try:
                current = await self._around.ledger.turn(turn.id)
                if current is not None and current.state is TurnState.RUNNING:
                    await self._around.endings.by_fate(current, "the ledger was in trouble")
            except LedgerError:
                return
            self._stranded.pop(0)
            self._on_free(turn.conversation)

    def _check_memory(self, slot: Slot) -> None:
        """A tree above twice the limit goes at once; its turn fails and is tried again."""
        live = slot.worker.live
        if live is not None and (
            self._agents.memory_bytes(live.agent.process) > 2 * self._settings.memory_limit
        ):
            log.warning("agent.too_large", conversation=slot.conversation)
            self._spawn(live.agent.close(), "too large")

    async def _watch_disk(self) -> None:
        """A conversation whose files outgrow their room: its turn ends, or its idle process goes,
        and with either whatever else it runs.
        """
        while True:
            await self._clock.sleep(max(WATCH_SECONDS, self._quota.rest()))
            for slot in list(self._slots.values()):
                live = slot.worker.live
                if live is None or not await self._quota.outgrown(live.workspace):
                    continue
                if slot.worker.live is not live:
                    continue  # it is gone by itself
                log.warning("workspace.outgrown", conversation=slot.conversation)
                if slot.place is Place.BUSY:
                    slot.worker.stop_writing()
                elif slot.place is Place.IDLE:
                    slot.place = Place.CLOSING
                    self._spawn(self._retire(slot), "outgrown")

    def _make_way(self) -> asyncio.Task[None] | None:
        """Free a slot: a spare first, then the least recently used idle worker."""
        if self._spares:
            spare = self._spares.pop(0)
            return self._spawn(self._discard(spare), "discard spare")
        slot = self._oldest_idle()
        return None if slot is None else self._leave(slot)

    def _displace(self) -> asyncio.Task[None] | None:
        """Free a slot for a spare: without one the next new conversation would wait for a close and
        a cold start, while the worker that has rested longest is the least likely to be asked next.
        """
        slot = self._oldest_idle()
        if slot is None or self._clock.monotonic() - slot.used_at < SPARE_DISPLACES_SECONDS:
            return None
        return self._leave(slot)

    def _leave(self, slot: Slot) -> asyncio.Task[None]:
        # The closing process no longer counts: its slot is that of whoever waits for its end.
        self._slots.pop(slot.conversation)
        slot.place = Place.CLOSING
        task = self._leaving[slot.conversation] = self._spawn(self._evict(slot), "evict")
        return task

    async def _discard(self, spare: Spare) -> None:
        self._gateway.revoke(spare.live.token)
        await spare.live.agent.close()
        self._agents.erase(spare.workspace)

    async def _close_all(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        spares, self._spares = self._spares, []
        slots, self._slots = list(self._slots.values()), {}
        await asyncio.gather(
            *(self._discard(spare) for spare in spares),
            *(slot.worker.close() for slot in slots),
        )

    def _add_slot(self, conversation: ConversationId) -> Slot:
        worker = Worker(self._around, self.start)
        slot = Slot(conversation, worker, Place.BUSY, self._clock.monotonic())
        self._slots[conversation] = slot
        return slot

    def _free(self) -> int:
        used = len(self._slots) + len(self._spares) + self._counts.starting_spares
        return self._settings.max_processes - used

    def _available(self) -> int:
        idle = sum(slot.place is Place.IDLE for slot in self._slots.values())
        return max(self._free(), 0) + len(self._spares) + idle + self._counts.starting_spares

    def _oldest_idle(self) -> Slot | None:
        idle = (slot for slot in self._slots.values() if slot.place is Place.IDLE)
        return min(idle, key=lambda slot: slot.used_at, default=None)

    def _busy(self) -> bool:
        return any(slot.place is Place.BUSY for slot in self._slots.values())

    def _publish(self) -> None:
        for state, number in self.numbers().items():
            if state != "max":
                self._metrics.processes.labels(state).set(number)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def serves(process: Profile, wanted: Profile) -> bool:
    """Whether a process made for one profile may serve another: the same in all but the label, and
    no stranger.
    """
    return replace(process, trust=wanted.trust) == wanted and wanted.trust is not Trust.PUBLIC
