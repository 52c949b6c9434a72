from __future__ import annotations

from pathlib import Path

import pytest

from daemon.machine import is_loopback, limits, memory_bytes


def limited(root: Path, path: str, text: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{text}\n")


def test_the_least_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    limited(tmp_path, "system.slice", "4000")
    limited(tmp_path, "system.slice/postroom.service", "max")
    assert limits("0::/system.slice/postroom.service\n", tmp_path) == [4000]
    limited(tmp_path, "system.slice/postroom.service", "3000")
    assert min(limits("0::/system.slice/postroom.service\n", tmp_path)) == 3000


def test_in_a_container_the_root_is_its_own(tmp_path: Path) -> None:
    limited(tmp_path, "", "2000")
    assert limits("0::/\n", tmp_path) == [2000]
    assert limits("0::/../../hidden/path\n", tmp_path) in ([2000], [])


def test_where_nothing_is_said_there_is_no_limit(tmp_path: Path) -> None:
    assert limits("", tmp_path) == []
    assert limits("5:memory:/old\n", tmp_path) == []
    limited(tmp_path, "", "max")
    assert limits("0::/gone", tmp_path) == []


def test_this_machine_has_some_memory() -> None:
    assert 2**28 < memory_bytes() < 2**45


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("::", False),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_loopback_is_known_by_its_very_name(host: str, ours: bool) -> None:
    assert is_loopback(host) is ours
