from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from daemon.demo.process import write_config

SEEN = """
import ctypes, resource
libc = ctypes.CDLL(None)
def seen():
    core = resource.getrlimit(resource.RLIMIT_CORE)
    return f"dumpable={libc.prctl(3, 0, 0, 0, 0)} core={core[0]},{core[1]}"
"""
BY_ITSELF = f"""
{SEEN}
import subprocess, sys
from daemon.secrecy import keep_memory
keep_memory()
print(seen())
child = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout)
"""
AS_THE_COMMAND = f"""
{SEEN}
import os, pathlib, sys
from daemon import app, cli
async def run(config, reread, environ):
    shown = pathlib.Path("/proc/self/environ").read_bytes()
    print(seen(), "canary" in os.environ.values(), b"c4nary" in shown, b"OTHER=stays" in shown)
    return 0
app.run = run
sys.argv = ["postroom", "run"]
cli.main()
"""


def python(code: str, here: Path, **environ: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=here,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **environ},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return ended.stdout


def test_nobody_reads_its_memory_and_no_core_is_left_and_children_are_as_ever(
    tmp_path: Path,
) -> None:
    own, child = python(BY_ITSELF, tmp_path).split("\n", 1)
    assert own == "dumpable=0 core=0,0"
    assert child.strip() == "1", "else a debugger could not attach to an agent either"


def test_the_daemon_runs_so_and_its_first_environment_holds_no_secret(tmp_path: Path) -> None:
    """The kernel shows what a process was started with, whatever it has changed since."""
    secrets = {name: {"env": name.upper()} for name in ("app_token", "bot_token")}
    table = {"kind": "slack", **secrets}
    write_config(tmp_path / "postroom.toml", {"connectors.slack": table})
    names = ("APP_TOKEN", "BOT_TOKEN", "ANTHROPIC_API_KEY")
    environ = {name: f"c4nary-of-{name}" for name in names}
    assert python(AS_THE_COMMAND, tmp_path, **environ, OTHER="stays").split() == [
        "dumpable=0",
        "core=0,0",
        "False",
        "False",
        "True",
    ]
