"""The plan of one conversation's agent process, and the executable that starts it by that plan.

A plan and its executable lie in a directory of the daemon's that no agent can reach. The SDK gets
the executable as `cli_path`; it holds only the paths of an interpreter, the launcher and the plan.
"""

from __future__ import annotations

import functools
import os
import py_compile
import shlex
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.isolation import namespaces, users
from daemon.isolation.levels import Level
from daemon.isolation.walls import Grants, Pairs, relay_walls

LAUNCHER, RELAY = (Path(__file__).with_name(name) for name in ("launcher.py", "relay.py"))
PROGRAM, WITHIN = "launcher.pyc", "plan.within"

SDK_VARIABLES = (
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_AGENT_SDK_VERSION",
    "CLAUDE_CODE_SDK_READS_SESSION_STATE",
)
"""The SDK sets these for each process (0.2.187, subprocess_cli.py), after the plan is written."""

DEFAULT_LIMITS: Mapping[str, int] = {
    "CORE": 0,
    "NOFILE": 4096,
    "FSIZE": 2 << 30,  # bytes of one file
}
"""resource.RLIMIT_* by name. NPROC counts by user and namespace: it is added where a conversation
has its own.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one agent process is started. `env` is final: nothing else of ours reaches the process
    but `SDK_VARIABLES` and `POSTROOM_PROCESS` (the pid and start time that are recorded of it).
    """

    level: Level
    command: Path
    workdir: Path
    grants: Grants
    env: Mapping[str, str]
    pid_file: Path
    limits: Mapping[str, int]
    parent: int
    user: int | None = None
    """Whom the process runs as; None: as the daemon."""

    @classmethod
    def for_conversation(
        cls,
        *,
        level: Level,
        command: Path,
        root: Path,
        gateway_port: int,
        pid_file: Path,
        env: Mapping[str, str],
        limits: Mapping[str, int] = DEFAULT_LIMITS,
        user: int | None = None,
        egress_port: int | None = None,
    ) -> Plan:
        """The plan over a conversation's `root`, with `work`, `config`, `home` and `tmp` in it.

        `env` adds to the variables that follow from the directories and the port, and wins.
        """
        work, config, home, tmp = (root / name for name in ("work", "config", "home", "tmp"))
        return cls(
            level=level,
            command=command,
            workdir=work,
            grants=Grants(
                read_only=(command,),
                read_write=(work, config, home, tmp),
                ports=(gateway_port,) if egress_port is None else (gateway_port, egress_port),
            ),
            env={**_base_environment(work, config, home, tmp, gateway_port), **env},
            pid_file=pid_file,
            limits={**limits, "NPROC": users.PROCESSES} if user or level.wrapper else limits,
            parent=os.getpid(),
            user=user,
        )

    def encode(self, directory: Path) -> bytes:
        """What launcher.py reads: pairs of a word and a value, each ended by a NUL. `directory` is
        where the plan lies.
        """
        pairs: Pairs = [("pid_file", str(self.pid_file)), ("parent", str(self.parent))]
        if self.user is not None:
            pairs += [("user", str(self.user)), ("group", str(users.PASSAGE))]
        if self.level.wrapper is None:
            return _encode(pairs + self._agent())
        limits = {name: value for name, value in self.limits.items() if name != "NPROC"}
        interpreter = namespaces.python(for_others=self.user is not None)
        program = directory / PROGRAM if interpreter == namespaces.OWN_PYTHON else LAUNCHER
        return _encode(
            [
                *pairs,
                *_limits(limits),
                *(("keep", name) for name in SDK_VARIABLES),
                *(("command", word) for word in self.level.wrapper(self.grants, interpreter)),
                ("hand", f"{namespaces.PLAN_NUMBER} {directory / WITHIN}"),
                ("hand", f"{namespaces.PROGRAM_NUMBER} {program}"),
                ("relay", "yes"),
                *(("own", str(path)) for path in self.grants.read_write),
                *relay_walls(self.grants),
            ]
        )

    def encode_within(self) -> bytes:
        """What launcher.py reads when a wrapper runs it again."""
        listen = [("listen", str(port)) for port in self.grants.ports]
        first = [("parent", str(namespaces.FIRST_PID - 1))]
        return _encode(first + listen + self._agent())

    def _agent(self) -> Pairs:
        return [
            ("command", str(self.command)),
            ("workdir", str(self.workdir)),
            *_limits(self.limits),
            *(("keep", name) for name in SDK_VARIABLES),
            *(("env", f"{name}={value}") for name, value in self.env.items()),
            *self.level.walls(self.grants),
        ]


def _limits(limits: Mapping[str, int]) -> Pairs:
    return [("limit", f"{name} {value}") for name, value in limits.items()]


def _encode(pairs: Pairs) -> bytes:
    fields = [field for pair in pairs for field in pair]
    if any("\0" in field for field in fields):
        raise ValueError("a plan's words and values hold no NUL")
    return "".join(f"{field}\0" for field in fields).encode(errors="surrogateescape")


def write_launcher(plan: Plan, directory: Path) -> Path:
    """Write the plan and its executable into `directory`; returns what to give as `cli_path`.

    `directory` is made 0700 and must lie outside everything that the plan lets be written. The
    plan holds the conversation's capability token, hence 0600.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    plan_file, executable = directory / "plan", directory / "claude"
    program = directory / PROGRAM
    _write(plan_file, plan.encode(directory), 0o600)
    _write(program, _compiled(LAUNCHER), 0o600)
    if plan.level.wrapper is not None:
        _write(directory / WITHIN, plan.encode_within(), 0o600)
        _write(directory / "relay.pyc", _compiled(RELAY), 0o600)
    # A shell line, as an interpreter line holds neither blanks nor long paths.
    words = [sys.executable, "-I", "-S", str(program), str(plan_file)]
    _write(executable, f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'.encode(), 0o700)
    return executable


@functools.cache
def _compiled(program: Path) -> bytes:
    """Compiled once by each daemon rather than at each start, with the very Python that runs it. No
    __pycache__, which may be old or not ours to write.
    """
    with tempfile.TemporaryDirectory(prefix="postroom-") as folder:
        compiled = f"{folder}/{program.stem}.pyc"
        py_compile.compile(str(program), cfile=compiled, doraise=True)
        return Path(compiled).read_bytes()


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file whole: a start in progress reads the old one or the new one."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    fresh.replace(path)


def _base_environment(
    work: Path, config: Path, home: Path, tmp: Path, gateway_port: int
) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "SHELL": "/bin/bash",
        "PWD": str(work),
        "HOME": str(home),
        # Without both the CLI makes directories in the system's temporary directory (measured).
        "TMPDIR": str(tmp),
        "CLAUDE_CODE_TMPDIR": str(tmp),
        "CLAUDE_CONFIG_DIR": str(config),
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{gateway_port}",
        # /etc/gitconfig is not granted (it may hold credentials); unreadable, git gives up.
        "GIT_CONFIG_NOSYSTEM": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
    }
