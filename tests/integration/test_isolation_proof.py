"""The proof holds where the walls stand, and fails wherever one of them is taken away."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.agents import cli_path
from daemon.errors import WallError
from daemon.isolation.levels import LEVELS, Level
from daemon.isolation.namespaces import HOST, bubblewrap
from daemon.isolation.proof import MUST_WORK, choose_level, prove
from daemon.isolation.walls import Grants, Pairs, landlock_walls
from tests.integration.isolation_help import home_at, make_home, passable_place

ALLOW_EVERYTHING = "06000000" + "0000ff7f"  # one instruction: return SECCOMP_RET_ALLOW

# Ways that many hosts shut for everybody: shown open at `none` only where they are.
HOSTS_MAY_SHUT = {
    "trace the daemon",
    "take a descriptor of the daemon",
    "connect by MPTCP",
    "set up io_uring",
    "use a keyring",
    "make a user namespace",
    "connect to another port over IPv6",
}


async def test_landlock_level_holds(tmp_path: Path) -> None:
    proof = await prove(LEVELS["landlock"], tmp_path)
    assert not proof.failures, proof.sentence()
    assert len(proof.checks) > 40
    assert not os.listdir(tmp_path), "nothing is left behind"  # noqa: PTH208


@pytest.fixture
def place() -> Iterator[Path]:
    yield from passable_place()


async def test_level_with_users_holds(place: Path) -> None:
    conversations = place / "data" / "conversations"
    choice = await choose_level("uid", conversations, cli=cli_path())
    assert choice.proof is not None
    checked = {check.name for check in choice.proof.checks}
    assert checked >= {"users", "groups", "others", "process_limit", "open the CLI"}
    assert not os.listdir(conversations), "nothing is left behind"  # noqa: PTH208


@pytest.fixture
def wrapped() -> Iterator[tuple[Level, Path]]:
    """The level `bwrap` as it is here, and a folder for its workspaces."""
    for home in home_at("bwrap"):
        yield home.level, home.top.parent / "data" / "conversations"


async def test_level_with_namespaces_holds_and_is_what_auto_takes(
    wrapped: tuple[Level, Path],
) -> None:
    level, conversations = wrapped
    choice = await choose_level("auto", conversations, cli=cli_path())
    assert (choice.level, choice.passed_over) == (level, ())
    assert choice.proof is not None
    checked = {check.name for check in choice.proof.checks}
    assert checked >= {*level.sees, "process_limit", "speak with the granted port"}
    assert not os.listdir(conversations), "nothing is left behind"  # noqa: PTH208


async def test_auto_takes_users_where_there_are_no_namespaces(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    choice = await choose_level("auto", place / "data" / "conversations", cli=cli_path())
    assert choice.level.name == "uid"
    (why,) = choice.passed_over
    assert why == "bwrap: it needs bubblewrap (on Debian: apt-get install bubblewrap)"


Wrapper = Callable[[Grants, Path], list[str]]


def without_words(*words: str) -> Wrapper:
    return lambda *asked: [word for word in bubblewrap(*asked) if word not in words]


def with_the_folder_of_all(grants: Grants, interpreter: Path) -> list[str]:
    command, folder = bubblewrap(grants, interpreter), str(grants.read_write[0].parent.parent)
    return [*command[:1], "--ro-bind", folder, folder, *command[1:]]


@pytest.mark.parametrize(
    ("wrapper", "seen"),
    [
        (without_words("--unshare-uts", "--hostname", HOST), "host"),
        (with_the_folder_of_all, "others"),
        # No start at all: its parent is no first process, and its port is taken.
        (without_words("--unshare-pid"), "the probe runs"),
        (without_words("--unshare-net"), "the probe runs"),
    ],
    ids=["uts", "files", "pid", "net"],
)
async def test_missing_namespace_is_seen(
    wrapped: tuple[Level, Path], wrapper: Wrapper, seen: str
) -> None:
    level, conversations = wrapped
    proof = await prove(replace(level, wrapper=wrapper), conversations)
    assert not proof.holds
    assert seen in {check.name for check in proof.failures}


async def test_cli_that_its_users_cannot_open_rules_the_level_out(place: Path) -> None:
    cli = place / "claude"
    cli.touch(mode=0o700)
    choice = await choose_level("auto", place / "data" / "conversations", cli=cli)
    assert choice.level.name == "landlock"
    assert choice.passed_over[-1] == (
        f"uid: other users cannot run {cli}, as they must: set up where they can pass"
    )
    proof = await prove(LEVELS["uid"], place / "data" / "conversations", cli)
    assert [check.name for check in proof.failures] == ["open the CLI"], "the proof sees it, too"


async def test_impassable_folder_rules_the_level_out_with_its_mend(place: Path) -> None:
    shut = place / "shut"
    shut.mkdir(mode=0o700)
    with pytest.raises(WallError, match=f"chmod o\\+x {shut}"):
        await choose_level("uid", shut / "data" / "conversations")


async def test_scene_of_a_killed_proof_is_removed(tmp_path: Path) -> None:
    old, young = tmp_path / "proof-old", tmp_path / "proof-young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (0, 0))
    await prove(LEVELS["landlock"], tmp_path)
    assert (old.exists(), young.exists()) == (False, True)


async def test_every_way_is_open_without_walls(tmp_path: Path) -> None:
    proof = await prove(LEVELS["none"], tmp_path)
    assert not proof.holds
    shut = {
        check.name
        for check in proof.checks
        if check.expected == "refused" and check.observed != "open"
    }
    assert shut <= HOSTS_MAY_SHUT
    assert {check.name for check in proof.checks if check.observed == "open"} >= MUST_WORK


Walls = Callable[[Grants], Pairs]


def without(word: str) -> Walls:
    def walls(grants: Grants) -> Pairs:
        return [pair for pair in landlock_walls(grants) if pair[0] != word]

    return walls


def with_an_empty_filter(grants: Grants) -> Pairs:
    kept = [pair for pair in landlock_walls(grants) if pair[0] != "filter"]
    return [*kept, ("filter", ALLOW_EVERYTHING)]


def with_proc_granted(grants: Grants) -> Pairs:
    return [*landlock_walls(grants), ("optional", "13 /proc")]


def with_everything_granted(grants: Grants) -> Pairs:
    return [*landlock_walls(grants), ("optional", "65535 /")]


@pytest.mark.parametrize(
    ("walls", "seen"),
    [
        (without("filter"), {"connect by MPTCP", "send UDP", "listen without binding", "seccomp"}),
        (with_an_empty_filter, {"connect by TCP Fast Open", "connect to a unix socket by path"}),
        (without("ruleset"), {"read another conversation's file", "connect to another port"}),
        (without("drop_privileges"), set()),
        (with_proc_granted, {"list processes"}),
        (with_everything_granted, {"read the ledger", "read the own plan"}),
    ],
    ids=["no filter", "empty filter", "no ruleset", "privileges", "proc", "everything"],
)
async def test_missing_wall_is_seen(tmp_path: Path, walls: Walls, seen: set[str]) -> None:
    mutant = replace(LEVELS["landlock"], walls=walls)
    proof = await prove(mutant, tmp_path)
    assert not proof.holds
    assert seen <= {check.name for check in proof.failures}


async def test_probe_that_does_not_start_proves_nothing(tmp_path: Path) -> None:
    broken = replace(
        LEVELS["landlock"], walls=lambda _: [("path", "4 /nowhere"), ("ruleset", "00")]
    )
    proof = await prove(broken, tmp_path)
    assert not proof.holds
    assert "postroom launcher" in proof.checks[0].observed


async def test_auto_takes_a_level_that_holds(tmp_path: Path) -> None:
    choice = await choose_level("auto", tmp_path)
    assert choice.level.strength > 0
    assert choice.proof is not None
    assert choice.proof.holds


async def test_level_that_does_not_hold_is_refused_in_one_sentence(tmp_path: Path) -> None:
    open_wide = replace(LEVELS["landlock"], walls=LEVELS["none"].walls)
    with pytest.raises(WallError, match="no wall holds here") as caught:
        await choose_level("auto", tmp_path, {"landlock": open_wide})
    assert caught.value.exit_code == 78
    assert "\n" not in str(caught.value)


async def test_level_that_lacks_its_kernel_is_refused_with_the_reason(tmp_path: Path) -> None:
    old = replace(LEVELS["landlock"], missing=lambda _: "it needs Linux 6.12 or newer")
    with pytest.raises(WallError, match=r"landlock: it needs Linux 6\.12"):
        await choose_level("auto", tmp_path, {"landlock": old, "none": LEVELS["none"]})


async def test_known_gaps_are_what_we_say(tmp_path: Path) -> None:
    """A gap that closes is good news, and then leaves the list that operators read."""
    home = make_home(tmp_path)
    outside = tmp_path / "outside"
    outside.write_text("x")
    with socket.socket() as elsewhere:
        elsewhere.bind(("127.0.0.2", 0))
        elsewhere.listen()
        port = elsewhere.getsockname()[1]
        output = await home.shell(
            f"exec 3<>/dev/tcp/127.0.0.2/{port} && echo connected; stat -c %a {outside};"
            f"chmod 640 {outside} && echo changed",
            port=port,
        )
    assert output.split() == ["connected", "644", "changed"]
