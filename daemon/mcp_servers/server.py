"""One MCP server: its process, kept up by the supervisor, and the calls to it."""

from __future__ import annotations

import asyncio
import importlib
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import structlog

from daemon import programs
from daemon.errors import Unavailable
from daemon.isolation import processes
from daemon.logs import hidden
from daemon.model import Health, HealthState, JsonObject
from daemon.ports import ToolAnswer, ToolSpec

log = structlog.get_logger()

CALL_SECONDS = 50.0  # the CLI itself waits for 60 s (MCP_TOOL_TIMEOUT)
MAX_LINE = 8 << 20  # bytes of one message
STDERR_LINES = 50  # of one process, that are logged
STDERR_CHARACTERS = 300
PATH = "/usr/local/bin:/usr/bin:/bin"

_DOWN = "This tool's server is not running at the moment. Nothing was done."
_SLOW = "This tool did not answer in time. Whether something was done is not known."
_FAILED = "This tool's server broke off. Whether something was done is not known."


class _Connection(Protocol):
    tools: Mapping[str, ToolSpec]

    async def call(self, tool: str, arguments: JsonObject) -> ToolAnswer: ...
    async def ended(self) -> None: ...


class _Speaks(Protocol):
    """connection.py, which is imported late."""

    def connected(
        self, process: asyncio.subprocess.Process
    ) -> AbstractAsyncContextManager[_Connection]: ...


class McpServer:
    """A service: `run` lasts as long as the process. `tools` are as it last listed them.

    `folder` is made for it: it is its home, and where it works. `secrets` become variables of its
    environment, where there is little else; each start takes them as they are then. `wanted` are
    tools that profiles name.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        secrets: Callable[[], Mapping[str, str]],
        wanted: Sequence[str],
    ) -> None:
        self.name = name
        self.tools: Mapping[str, ToolSpec] = {}
        self.tried = asyncio.Event()  # once: whether it came up, or why not, is known
        self._command, self._folder, self._secrets = tuple(command), folder, secrets
        self._wanted = tuple(wanted)
        self._connection: _Connection | None = None
        self._trouble = "it has not started yet"

    async def run(self) -> None:
        """Until cancelled. Raises Unavailable where it does not start, and when it ends."""
        self._trouble = "it is starting"
        try:
            await self._live()
            self._trouble = "its process ended"
        except Unavailable as error:
            self._trouble = str(error)
        except Exception:  # whatever a server sends: it must not use up the daemon's restarts
            log.exception("mcp.broke", server=self.name)
            self._trouble = "it cannot be spoken to"
        finally:
            self._connection = None
            self.tried.set()
        raise Unavailable(self._trouble)

    async def call(self, tool: str, arguments: JsonObject) -> ToolAnswer:
        """What the model reads, always; no secret that the daemon knows is in it."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self.tried.wait()  # one that is only starting is waited for
                if self._connection is None:
                    return ToolAnswer(_DOWN, failed=True)
                return await self._connection.call(tool, arguments)
        except TimeoutError:
            return ToolAnswer(_SLOW, failed=True)
        except ConnectionError:
            return ToolAnswer(_FAILED, failed=True)
        except Exception:  # the boundary to the model: no exception's text crosses it
            log.exception("mcp.call_broke", server=self.name, tool=tool)
            return ToolAnswer(_FAILED, failed=True)

    def health(self) -> Health:
        """Never unready: messages are accepted without it."""
        if self._connection is None:
            return Health(HealthState.WARN, f"it does not run: {self._trouble}")
        if missing := [tool for tool in self._wanted if tool not in self.tools]:
            return Health(HealthState.WARN, f"it has no tool {missing[0]!r}")
        return Health(HealthState.PASS, numbers={"tools": len(self.tools)})

    # --- its process ----------------------------------------------------------------------------

    async def _live(self) -> None:
        speaks: _Speaks = await asyncio.to_thread(
            importlib.import_module, "daemon.mcp_servers.connection"
        )
        pid_file = self._folder.with_suffix(".pid")
        await self._end_former(pid_file)
        process = await self._start()
        ref = processes.running(process.pid)
        logging_ = asyncio.create_task(self._log_stderr(process))
        try:
            if ref is not None:
                processes.write_pid_file(pid_file, ref)
            async with speaks.connected(process) as connection:
                self.tools, self._connection = connection.tools, connection
                self.tried.set()
                log.info("mcp.connected", server=self.name, tools=len(self.tools))
                await connection.ended()
        finally:
            self._connection = None
            if ref is not None:
                await processes.end(ref, grace=2.0)
            pid_file.unlink(missing_ok=True)
            await programs.see_gone(process)
            logging_.cancel()
            await asyncio.wait({logging_})

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            for folder in (self._folder.parent, self._folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return await programs.start(
                self._command,
                env={**self._environment(), **self._secrets()},
                limit=MAX_LINE,
                folder=self._folder,
                stderr=PIPE,
            )
        except OSError as error:
            raise Unavailable(f"it cannot be started: {error.strerror or error}") from error

    def _environment(self) -> Mapping[str, str]:
        folder = str(self._folder)
        return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder}

    async def _end_former(self, pid_file: Path) -> None:
        """One that an earlier daemon left, as it was killed. Raises Unavailable."""
        ref = processes.read_pid_file(pid_file)
        if ref is not None and not await processes.end(ref, grace=2.0):
            raise Unavailable("the former process cannot be ended")

    async def _log_stderr(self, process: asyncio.subprocess.Process) -> None:
        """All of it is read, so that it never stands still; the beginning is logged, line by line,
        with secrets looked for before a line is cut.
        """
        assert process.stderr is not None  # noqa: S101 - it was started with a pipe
        left = STDERR_LINES
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # longer than any may be, and gone
                continue
            except OSError:
                return
            if not line:
                return
            if left:
                left -= 1
                text = hidden(line[: 20 * STDERR_CHARACTERS].decode("utf-8", "replace").rstrip())
                log.info("mcp.stderr", server=self.name, line=text[:STDERR_CHARACTERS])
