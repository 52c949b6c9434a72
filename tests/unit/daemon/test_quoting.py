"""What somebody wrote, within a sentence of ours."""

from __future__ import annotations

from daemon.quoting import MAX_SHOWN, in_code


def test_it_stays_on_its_line_and_within_its_marks() -> None:
    assert in_code("a\r\nb `c` *d*") == "`a b 'c' *d*`"


def test_it_is_cut() -> None:
    assert len(in_code("x" * 500)) == MAX_SHOWN + 2
