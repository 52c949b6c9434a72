"""What a program started by the launcher finds, and that a start fails rather than be weaker."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from daemon.isolation.plan import write_launcher
from daemon.isolation.processes import alive, members, read_pid_file
from tests.integration.isolation_help import WALLED, Home, home_at, until


@pytest.fixture(params=WALLED)
def home(request: pytest.FixtureRequest) -> Iterator[Home]:
    yield from home_at(request.param)


async def test_only_the_plans_environment_arrives(home: Home) -> None:
    output = await home.shell("env")
    names = {line.split("=")[0] for line in output.splitlines()}
    planned = set(home.plan().env) | {"POSTROOM_PROCESS"}
    assert names - planned <= {"_", "SHLVL", "OLDPWD"}
    assert "canary" not in output


async def test_arguments_arrive_unchanged(home: Home) -> None:
    script = 'for word in "$@"; do printf "[%s]" "$word"; done'
    process = await asyncio.create_subprocess_exec(
        *(str(home.launcher()), "-c", script, "sh", "two words", "", "$HOME", "ü\n'\""),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert output.decode() == "[two words][][$HOME][ü\n'\"]"


async def test_everyday_tools_work_within_the_walls(home: Home) -> None:
    output = await home.shell(
        "set -e; git init -q repo; cd repo; echo hello > f; git add f;"
        "git -c user.name=a -c user.email=a@b commit -qm first; git log --oneline | wc -l;"
        "python3 -c 'import tempfile; print(tempfile.TemporaryFile() and 7)';"
        "sort f | tr a-z A-Z; tar cf ../x.tar f; chmod +x f; yes | head -n 1; nice -n 3 true;"
        "bash -c 'cat <(echo substituted)'; date > /dev/null; echo $?"
    )
    assert output.split() == ["1", "7", "HELLO", "y", "substituted", "0"]


async def test_secrets_of_the_machine_are_not_read(home: Home) -> None:
    for path in (
        "/etc/shadow",
        "/etc/ssl/private",
        "/proc/1/environ",
        "/proc/self/environ",
        "/run",
    ):
        output = await home.shell(f"cat {path} 2>&1 || ls {path} 2>&1")
        assert "Permission denied" in output or "No such file" in output, path


async def test_pid_file_names_the_very_process(home: Home) -> None:
    process = await asyncio.create_subprocess_exec(
        *(str(home.launcher()), "-c", "echo up; read line"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdin
    await process.stdout.readline()
    ref = read_pid_file(home.pid_file)
    assert ref is not None
    assert ref.pid == process.pid
    assert alive(ref)
    assert os.getsid(ref.pid) == os.getpgid(ref.pid) == ref.pid
    process.stdin.write(b"\n")
    await process.wait()
    assert not alive(ref)


async def test_plan_of_an_earlier_daemon_does_not_start(home: Home) -> None:
    plan = replace(home.plan(), parent=os.getpid() + 1)
    process = await asyncio.create_subprocess_exec(
        *(str(write_launcher(plan, home.top / "run" / "a")), "-c", "echo started"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await process.communicate()
    assert (process.returncode, output) == (78, b"")
    assert complaint.decode().startswith("postroom launcher: ")
    assert len(complaint.splitlines()) == 1


async def test_empty_list_of_ports_allows_none(home: Home) -> None:
    """CVE-2025-66479 of another sandbox: its empty list allowed everything."""
    script = 'exec 3<>"/dev/tcp/127.0.0.1/$1" && echo connected'
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as it:
        port = it.sockets[0].getsockname()[1]
        outputs = []
        for ports in ((), (port,)):
            plan = home.plan(port=port)
            plan = replace(plan, grants=replace(plan.grants, ports=ports))
            process = await asyncio.create_subprocess_exec(
                *(str(write_launcher(plan, home.top / "run" / "a")), "-c", script, "sh", str(port)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            output, _ = await process.communicate()
            outputs.append(output)
    assert outputs == [b"", b"connected\n"]


async def test_link_left_in_place_of_a_directory_is_not_followed(home: Home) -> None:
    """What an agent leaves for its next start: a link to somebody else's directory."""
    elsewhere = home.top / "elsewhere"
    elsewhere.mkdir()
    tmp = home.top / "conversation" / "tmp"
    tmp.rmdir()
    tmp.symlink_to(elsewhere)
    assert "is a link" in await home.shell("echo started")


async def test_death_of_the_spawner_ends_the_process(home: Home) -> None:
    """By SIGTERM from the kernel, within the launcher's first breath or later."""
    spawner = await asyncio.create_subprocess_exec(
        "/usr/bin/env",
        *("python3", "-c", SPAWNER, str(home.launcher())),
    )
    # The plan names the spawner as its parent, as the daemon's own plans name the daemon.
    write_launcher(replace(home.plan(), parent=spawner.pid), home.top / "run" / "a")
    assert await until((home.work / "up").exists)
    ref = read_pid_file(home.pid_file)
    assert ref is not None
    assert alive(ref)
    os.kill(spawner.pid, signal.SIGKILL)
    await spawner.wait()
    assert await until(lambda: not members(ref), seconds=5.0)


SPAWNER = """
import subprocess, sys, time
time.sleep(0.3)
subprocess.run([sys.argv[1], "-c", "echo x > up; exec sleep 60"])
"""
