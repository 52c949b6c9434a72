"""One mailbox, heard over two connections: one watches, the other does all the work.

No command may queue behind an IDLE that nobody answers (measured): hence two. Each belongs to one
task. Any fault ends both; the supervisor starts them again after the wait that is asked for here.
"""
# ruff: noqa: A005 - a mailbox is what it is, and imports are absolute

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from connectors.imap.backoff import BackOff
from connectors.imap.catchup import Between, CatchUp, NoRoom
from connectors.imap.client import ConnectionLost, ImapClient, Limits, Refused
from connectors.imap.config import ImapTable
from connectors.imap.connecting import NotReached, connect
from connectors.imap.folders import special_folder
from connectors.imap.jobs import Jobs
from connectors.imap.mail import ReadMail
from connectors.imap.parsing import Parsing, ParsingTimes
from connectors.imap.proof import Ages, ProofOfLife, Timing
from connectors.imap.rawstore import RawStore
from daemon.clock import Clock
from daemon.errors import AuthenticationFailed, LedgerError, Unavailable
from daemon.ports import Intake

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Condition:
    """How a mailbox is. `behind` is how many mails were found that are not registered yet."""

    state: str
    trouble: str
    ages: Ages
    registered: int
    behind: int
    uid: int


class Mailbox:
    """A mailbox's way in, and its connection for other work. `tls` is for tests of certificates."""

    def __init__(
        self,
        *,
        name: str,
        table: ImapTable,
        clock: Clock,
        data_dir: Path,
        read: ReadMail,
        timing: Timing | None = None,
        limits: Limits | None = None,
        parsing: ParsingTimes | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._name = name
        self._table = table
        self._clock = clock
        self._timing = timing or Timing()
        self._limits = limits or Limits()
        self._tls = tls
        self._store = RawStore(data_dir, name, clock)
        self._parsing = Parsing(parsing)
        self._proof = ProofOfLife(clock)
        self._catchup = CatchUp(
            name=name,
            folder=table.folder,
            store=self._store,
            parsing=self._parsing,
            read=read,
            clock=clock,
            searched=self._proof.searched,
        )
        self._backoff = BackOff()
        self._bell = asyncio.Event()  # something may be new, or wants to be done
        self._jobs = Jobs(self._bell)
        self._alone = asyncio.Lock()
        self._at_rest = True  # `run` has not begun, or has been told to end
        self._specials: dict[str, str] = {}
        self._state = "starting"
        self._trouble = ""

    # --- life

    async def run(self, intake: Intake, ready: Callable[[], None]) -> None:
        """Until cancelled. Calls `ready` once both connections have proven alive. Raises
        Unavailable, with how long to wait, and AuthenticationFailed.
        """

        def proven() -> None:
            self._backoff.proven()
            ready()

        self._at_rest = False
        self._proof.begin(proven)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        cancels = task.cancelling()
        try:
            await asyncio.to_thread(self._store.begin)
            async with asyncio.TaskGroup() as group:
                await self._serve(group, intake)
        except asyncio.CancelledError:
            self._state, self._at_rest = "stopped", True
            raise
        except BaseExceptionGroup as failures:
            if task.cancelling() > cancels:  # the group forgets it for a fault on the way out
                self._state, self._at_rest = "stopped", True
                raise asyncio.CancelledError from None
            raise self._judged(failures) from None
        finally:
            self._proof.forget()
            await self._parsing.close()

    def _judged(self, failures: BaseExceptionGroup[BaseException]) -> BaseException:
        """The one failure that the supervisor can act upon."""
        found = _leaves(failures)
        error = next((each for each in found if isinstance(each, AuthenticationFailed)), found[0])
        self._trouble = str(error)
        if isinstance(error, AuthenticationFailed):
            self._state = "parked"
            self._jobs.close(self._trouble)
        if not isinstance(error, Unavailable | Refused):
            return error
        self._state = "waiting"
        reached = not isinstance(error, NotReached)
        wait = self._backoff.failed(self._clock.monotonic(), reached=reached)
        return Unavailable(str(error), retry_after=wait)

    async def _serve(self, group: asyncio.TaskGroup, intake: Intake) -> None:
        """The working connection. The watching one follows: a wrong password is tried once."""
        self._state = "connecting"
        async with self._connected() as client:
            group.create_task(self._watch(), name=f"{self._name} watch")
            self._jobs.closed = ""
            try:
                await self._work(client, intake)
            finally:
                self._jobs.close("the mailbox is not connected")

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[ImapClient]:
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        client = await connect(self._table.imap, self._tls, self._limits)
        try:
            yield client
        finally:
            client.abort()

    # --- the working connection

    async def _work(self, client: ImapClient, intake: Intake) -> None:
        """Each time the bell rings, and now and then. The connection is kept when intake takes
        nothing (a full disk, a drain) or has no room: the mail stays where it is.
        """
        loop = asyncio.get_running_loop()
        reconcile_at = loop.time() + self._timing.reconcile
        pause, entered = 0.0, False

        async def between() -> None:
            await self._jobs.carry_out(client, self._table.folder)

        while True:
            self._bell.clear()
            await between()
            trouble = ""
            try:
                if not entered or client.folder != self._table.folder:
                    await self._catchup.enter(client, intake)
                    entered = True
                await self._catchup.look(client, intake, between)
                if loop.time() >= reconcile_at:
                    await self._catchup.reconcile(client, intake, between)
                    reconcile_at = loop.time() + self._timing.reconcile
            except ConnectionLost:
                raise
            except NoRoom as full:
                if not pause:
                    log.warning("mail.left_waiting", connector=self._name, reason=str(full))
                trouble = f"mail is left on the server: {full}"
            except (LedgerError, Unavailable, OSError) as error:
                log.warning("mail.not_registered", connector=self._name, reason=str(error))
                trouble = "mail cannot be registered now"
            self._trouble = trouble
            if trouble:
                pause = min(max(2 * pause, self._timing.first_pause), self._timing.last_pause)
                await self._rest(pause, between)
            else:
                pause = 0.0
                await self._rung(reconcile_at)

    async def _rest(self, seconds: float, between: Between) -> None:
        """Look for no mail for so long. Others' work is done meanwhile."""
        until = asyncio.get_running_loop().time() + seconds
        while await self._rung(until):
            await between()

    async def _rung(self, until: float) -> bool:
        """Wait for the bell. False: the time has come before it rang."""
        try:
            async with asyncio.timeout_at(until):
                await self._bell.wait()
        except TimeoutError:
            return False
        self._bell.clear()
        return True

    # --- the watching connection

    async def _watch(self) -> None:
        async with self._connected() as client:
            await client.select(self._table.folder, read_only=True)
            await client.search("UID", "*")
            self._state = "watching" if client.can_idle else "polling"
            self._proof.probed()
            self._bell.set()  # for what came before this connection could tell
            while True:
                await self._wait_for_news(client)
                await client.noop()
                self._proof.probed()
                self._bell.set()

    async def _wait_for_news(self, client: ImapClient) -> None:
        if client.can_idle and self._state == "watching":
            try:
                await client.idle(self._timing.idle, self._bell.set)
            except Refused as refused:
                log.warning("mailbox.idle_refused", connector=self._name, reason=str(refused))
                self._state = "polling"
        else:
            await asyncio.sleep(self._timing.poll)

    # --- how it is

    def condition(self) -> Condition:
        return Condition(
            state=self._state,
            trouble=self._trouble,
            ages=self._proof.ages(),
            registered=self._catchup.registered,
            behind=self._catchup.behind,
            uid=self._catchup.cursor.uid,
        )

    # --- other work

    async def work(self, job: Callable[[ImapClient], Awaitable[T]]) -> T:
        """Run a job on the working connection, between two fetches; the mailbox's folder is
        selected when it begins, and it may select another. Raises Unavailable, and what the job
        raises.

        Once `run` has been told to end (a drain: the last answers are still carried out), the job
        gets a connection of its own. Raises AuthenticationFailed then, too.
        """
        if not self._at_rest:
            return await self._jobs.put(job)
        async with self._alone, self._connected() as client:
            await client.select(self._table.folder)
            result = await job(client)
            await client.close()
            return result

    async def special(self, use: str) -> str:
        """The folder for "Drafts" or "Sent". Not within a job: `folders.special_folder` is."""
        if use not in self._specials:
            self._specials[use] = await self.work(lambda client: special_folder(client, use))
        return self._specials[use]


def _leaves(failures: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in failures.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
