"""What a plan says, and where its parts lie."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.isolation.launcher import clean_environment, read_plan
from daemon.isolation.levels import LEVELS
from daemon.isolation.plan import Plan, write_launcher


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_for(tmp_path, {"ANTHROPIC_API_KEY": "cap-4f1e"})


def plan_for(tmp_path: Path, env: Mapping[str, str]) -> Plan:
    return Plan.for_conversation(
        level=LEVELS["landlock"],
        command=Path("/bin/true"),
        root=tmp_path / "a",
        gateway_port=4711,
        pid_file=tmp_path / "a.pid",
        env=env,
    )


def test_environment_of_a_process_is_private_to_its_conversation(
    plan: Plan, tmp_path: Path
) -> None:
    root = str(tmp_path / "a")
    for name in ("HOME", "TMPDIR", "CLAUDE_CODE_TMPDIR", "CLAUDE_CONFIG_DIR", "PWD"):
        assert plan.env[name].startswith(f"{root}/")
    assert plan.env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:4711"
    assert plan.env["ANTHROPIC_API_KEY"] == "cap-4f1e"


def test_given_variables_win_over_the_base(tmp_path: Path) -> None:
    assert plan_for(tmp_path, {"LANG": "de_DE.UTF-8"}).env["LANG"] == "de_DE.UTF-8"


def test_launcher_reads_what_the_plan_says(plan: Plan, tmp_path: Path) -> None:
    odd = replace(plan, env={"A": "two\nlines = 'x'", "B": ""}, workdir=Path("/with blank/ü"))
    write_launcher(odd, tmp_path / "run dir")
    read = read_plan(str(tmp_path / "run dir" / "plan"))
    assert read["workdir"] == ["/with blank/ü"]
    assert read["port"] == ["4711"]
    assert read["parent"] == [str(os.getpid())]
    assert clean_environment({"env": read["env"]}) == {"A": "two\nlines = 'x'", "B": ""}


def test_nul_in_a_value_cannot_forge_a_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NUL"):
        plan_for(tmp_path, {"A": "x\0filter\0"}).encode(tmp_path)


def test_plan_with_its_token_is_the_daemons_alone(plan: Plan, tmp_path: Path) -> None:
    executable = write_launcher(plan, tmp_path / "run")
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "run" / "plan").stat().st_mode) == 0o600
    assert "cap-4f1e" not in executable.read_text()
    again = write_launcher(replace(plan, env={}), tmp_path / "run")
    assert again == executable
    assert b"cap-4f1e" not in (tmp_path / "run" / "plan").read_bytes()


def test_only_the_conversations_own_directories_are_writable(plan: Plan, tmp_path: Path) -> None:
    inside = {tmp_path / "a" / name for name in ("work", "config", "home", "tmp")}
    assert set(plan.grants.read_write) == inside
