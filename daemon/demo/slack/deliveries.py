"""Events on their way to the app: envelopes, acks, redelivery.

Source: docs.slack.dev/apis/events-api (each payload goes to one of the connections; an ack within
3 s; then at once, after one minute and after five again).
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from daemon.demo.slack.journal import Entry, Journal
    from daemon.demo.slack.sockets import Loss, Socket, Sockets

Json = dict[str, Any]


@dataclass(slots=True)
class Delivering:
    """How events are delivered; times in seconds. The defaults are Slack's.

    `hold_unconnected` keeps an event for the next connection instead of counting a failed attempt
    when there is none. `ack_any_socket` False: only the socket that carried an envelope can ack it
    (which of the two holds at Slack is not documented).
    """

    ack_timeout: float = 3.0
    retry_delays: tuple[float, ...] = (0.0, 60.0, 300.0)
    hold_unconnected: bool = False
    ack_any_socket: bool = True


@dataclass(slots=True)
class DeliveryFaults:
    """Counters of what is to go wrong next; each use takes one off."""

    duplicates: int = 0  # events that are sent twice, each in an envelope of its own
    dropped_acks: int = 0  # acks that are taken for not arrived
    lost_after_delivery: int = 0  # sockets that go just after an event was written to them
    loss: Loss = "close"


@dataclass(slots=True)
class Envelope:
    event_id: str
    socket: Socket
    sent: float
    acked: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Deliveries:
    """Each event in a task of its own, until it is acked or given up."""

    def __init__(
        self, journal: Journal, sockets: Sockets, delivering: Delivering, seed: int
    ) -> None:
        self.faults = DeliveryFaults()
        self.acked: dict[str, Entry] = {}  # the first counted ack of each event_id
        self._journal = journal
        self._sockets = sockets
        self._delivering = delivering
        self._envelopes: dict[str, Envelope] = {}
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    def hear(self, socket: Socket, frame: Json) -> None:
        """An ack, most likely."""
        envelope = self._envelopes.get(str(frame.get("envelope_id")))
        if envelope is None:
            self._journal.write("frame", socket=socket.number, frame=frame)
            return
        dropped = self.faults.dropped_acks > 0
        self.faults.dropped_acks -= dropped
        elsewhere = socket is not envelope.socket
        counted = not dropped and (self._delivering.ack_any_socket or not elsewhere)
        late = envelope.acked.done()
        ack = self._journal.write(
            "ack",
            envelope_id=frame["envelope_id"],
            event_id=envelope.event_id,
            socket=socket.number,
            seconds=round(time.monotonic() - envelope.sent, 6),
            counted=counted and not late,
            dropped=dropped,
            late=late,
            response=frame.get("payload"),
        )
        if counted and not late:
            self.acked.setdefault(envelope.event_id, ack)
            envelope.acked.set_result(None)

    def publish(self, body: Json) -> str:
        """Start delivering an event's body; its event_id. Needs a running loop."""
        event = body.get("event") or {}
        event_id = str(body.get("event_id", ""))
        self._journal.write(
            "event",
            event_id=event_id,
            type=event.get("type"),
            subtype=event.get("subtype"),
            channel=event.get("channel"),
            ts=event.get("ts"),
            payload=body,
        )
        copies = 1
        if self.faults.duplicates > 0:
            self.faults.duplicates -= 1
            copies = 2
        for _ in range(copies):
            self._spawn(self._deliver("events_api", event_id, body))
        return event_id

    def interact(self, kind: str, body: Json) -> str:
        """Send an `interactive` or `slash_commands` payload once: Slack does not repeat these."""
        label = str(body.get("trigger_id", ""))
        self._journal.write("interaction", type=kind, event_id=label, payload=body)
        self._spawn(self._deliver(kind, label, body))
        return label

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, kind: str, event_id: str, body: Json) -> None:
        reason = ""
        delays = self._delivering.retry_delays if kind == "events_api" else ()
        for attempt, delay in enumerate((0.0, *delays)):
            if delay:
                await asyncio.sleep(delay)
            failure = await self._attempt(kind, event_id, body, attempt, reason)
            if failure is None:
                return
            reason = failure
        self._journal.write("gave_up", event_id=event_id, reason=reason)

    async def _choose(self) -> Socket | None:
        while True:
            usable = [socket for socket in self._sockets.open if not socket.ws.closed]
            if usable or not self._delivering.hold_unconnected:
                return self._random.choice(usable) if usable else None
            self._sockets.connected.clear()
            await self._sockets.connected.wait()

    async def _attempt(
        self, kind: str, event_id: str, body: Json, attempt: int, reason: str
    ) -> str | None:
        """One delivery, to any of the sockets; None when acked, else why not."""
        socket = await self._choose()
        if socket is None:
            self._journal.write("delivery", event_id=event_id, attempt=attempt, socket=None)
            return "connection_failed"
        envelope_id = str(uuid.uuid4())
        envelope = self._envelopes[envelope_id] = Envelope(event_id, socket, time.monotonic())
        frame: Json = {
            "envelope_id": envelope_id,
            "payload": body,
            "type": kind,
            "accepts_response_payload": kind != "events_api",
        }
        if kind == "events_api":
            frame |= {"retry_attempt": attempt, "retry_reason": reason}
        self._journal.write(
            "delivery",
            event_id=event_id,
            envelope_id=envelope_id,
            attempt=attempt,
            reason=reason,
            socket=socket.number,
        )
        await self._sockets.send(socket, frame)
        if self.faults.lost_after_delivery > 0:
            self.faults.lost_after_delivery -= 1
            await self._sockets.lose([socket], self.faults.loss)
        try:
            await asyncio.wait_for(asyncio.shield(envelope.acked), self._delivering.ack_timeout)
        except TimeoutError:
            envelope.acked.cancel()
            return "timeout"
        return None

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
