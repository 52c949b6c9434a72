"""Walk the Dockerfile in clean Debian trees, without a container engine: `make image-check`.

Needs root and debootstrap. Each FROM begins with a fresh tree, each RUN is run in it by chroot,
each COPY copies; then the image's own command is started as its user, and asked by its own health
command. The trees take the host's settings for apt and pip, as a build behind a mirror would.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from daemon.demo.process import free_port

ROOT = Path(__file__).parents[2]
BASES = {"debian:12-slim": "bookworm"}
HOST_FILES = ("/etc/apt", "/etc/pip.conf", "/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs")
HOST_VARIABLES = ("PIP_CERT", "PIP_DEFAULT_TIMEOUT", "SSL_CERT_FILE", "SSL_CERT_DIR")
PATIENCE_SECONDS = 60
# Stand-in secrets, and a Slack that is not there: the daemon lives on without it.
SECRETS = {
    "ANTHROPIC_API_KEY": "sk-ant-none",
    "SLACK_APP_TOKEN": "xapp-none",
    "SLACK_BOT_TOKEN": "xoxb-none",
    "POSTROOM__CONNECTORS__SLACK__API_URL": "http://127.0.0.1:9/api/",
}


@dataclass
class Stage:
    """One FROM: its tree, and what the instructions so far have set."""

    tree: Path
    environ: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    workdir: str = "/"
    health: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def main() -> int:
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        print("image-check needs root and debootstrap (Debian's package of that name)")
        return 2
    with tempfile.TemporaryDirectory(prefix="postroom-image-", dir="/var/tmp") as work:
        image = walk(Path(work))
        subprocess.run(inside(image, ["postroom", "version"]), env=environ(image), check=True)
        try_it(image)
    print("every step of the Dockerfile was walked")
    return 0


# --- the steps -----------------------------------------------------------------------------------


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    lines = [line for line in dockerfile.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def walk(work: Path) -> Stage:
    """The last stage, once every step of every stage is done."""
    stages: dict[str, Stage] = {}
    for word, rest in instructions((ROOT / "Dockerfile").read_text()):
        print(f"{word} {rest[:110]}", flush=True)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name or "last"] = Stage(clean_tree(work, base, name or "last"))
        else:
            step([*stages.values()][-1], word, rest, stages)
    return stages["last"]


def step(stage: Stage, word: str, rest: str, stages: Mapping[str, Stage]) -> None:
    match word:
        case "ENV":
            stage.environ |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        case "RUN":
            take_host_settings(stage.tree)
            command = inside(stage, ["sh", "-c", rest])
            subprocess.run(command, env=environ(stage), check=True, stdout=subprocess.DEVNULL)
        case "COPY":
            copy(stage, rest, stages)
        case "USER":
            stage.user = rest
        case "WORKDIR":
            stage.workdir = rest
        case "HEALTHCHECK":
            stage.health = json.loads(rest[rest.index("[") :])
        case "ENTRYPOINT" | "CMD":
            stage.command += json.loads(rest)
        case "VOLUME" | "STOPSIGNAL":
            pass
        case _:
            raise SystemExit(f"a step that this walk does not know: {word}")


def clean_tree(work: Path, base: str, name: str) -> Path:
    pristine, tree = work / "pristine", work / name
    if not pristine.exists():
        command = ["debootstrap", "--variant=minbase", BASES[base], str(pristine)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cp", "-a", str(pristine), str(tree)], check=True)
    return tree


def take_host_settings(tree: Path) -> None:
    """Before each step, as a step (ca-certificates) may have written them anew."""
    for file in map(Path, HOST_FILES):
        if file.exists():
            target = tree / file.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            command = ["cp", "-aLT", "--remove-destination", str(file), str(target)]
            subprocess.run(command, check=False, stderr=subprocess.DEVNULL)  # a link may dangle


def copy(stage: Stage, rest: str, stages: Mapping[str, Stage]) -> None:
    found = re.match(r"--from=(\w+) (.*)", rest)
    root = stages[found[1]].tree if found else ROOT
    *sources, target = (found[2] if found else rest).split()
    place = stage.tree / target.lstrip("/")
    place.mkdir(parents=True, exist_ok=True)
    for source in sources:
        path = root / source.lstrip("/")
        what = f"{path}/." if path.is_dir() else str(path)
        subprocess.run(["cp", "-a", what, str(place)], check=True)


# --- in the tree ---------------------------------------------------------------------------------


def inside(stage: Stage, command: list[str]) -> list[str]:
    """A command as the stage's user in its tree, which has /proc and /dev in mounts of its own."""
    tree = shlex.quote(str(stage.tree))
    path = stage.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    there = f"cd {stage.workdir} && PATH={path} exec {shlex.join(command)}"
    mounts = [f"mount --rbind /{name} {tree}/{name}" for name in ("proc", "dev")]
    entering = f"exec chroot --userspec={stage.user} {tree} sh -c {shlex.quote(there)}"
    return ["unshare", "--mount", "sh", "-c", " && ".join([*mounts, entering])]


def environ(stage: Stage) -> dict[str, str]:
    base = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
    base |= {name: os.environ[name] for name in HOST_VARIABLES if name in os.environ}
    return base | {k: v for k, v in stage.environ.items() if k != "PATH"}


def try_it(image: Stage) -> None:
    """Run the image's command; healthy by its health command, walls proven, ended by SIGTERM."""
    log = image.tree.parent / "daemon.log"
    image.environ |= {**SECRETS, "POSTROOM__DAEMON__LISTEN": f"127.0.0.1:{free_port()}"}
    with log.open("wb") as out:
        running = subprocess.Popen(
            inside(image, image.command), env=environ(image), stdout=out, stderr=out
        )
    try:
        until(lambda: healthy(image), log)
        print("healthy by its own health command")
        until(lambda: "walls.proven" in log.read_text(), log)
        print("walls proven as its own user")
    finally:
        running.send_signal(
            signal.SIGTERM
        )  # every word before the image's command exec'ed the next
        status = running.wait(PATIENCE_SECONDS)
    if status != 0:
        raise SystemExit(f"it ended with {status}: {log.read_text()[-2000:]}")
    print("ended by SIGTERM with status 0")


def healthy(image: Stage) -> bool:
    command = inside(image, image.health)
    asked = subprocess.run(command, env=environ(image), check=False, capture_output=True)
    return asked.returncode == 0


def until(holds: Callable[[], bool], log: Path) -> None:
    for _ in range(PATIENCE_SECONDS):
        if holds():
            return
        time.sleep(1)
    raise SystemExit(log.read_text()[-2000:])


if __name__ == "__main__":
    sys.exit(main())
