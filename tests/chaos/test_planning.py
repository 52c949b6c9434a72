"""Plans of runs: of a seed, as large as was asked for, and parts that make up a whole."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.chaos.parts import Part, add_up, keep, missing
from tests.chaos.plan import Plan, Size
from tests.chaos.planning import make
from tests.chaos.points import POINTS
from tests.chaos.summary import Summary
from tests.chaos.sweep import never_hit, sweep


def wanted(plan: Plan) -> int:
    return sum(say.wanted for life in plan.lives for say in life.says)


def test_a_seed_makes_the_same_plan_again_and_another_one_another() -> None:
    size = Size(kills=20, messages=200, mail=5)
    assert make(size, 7) == make(size, 7)
    assert make(size, 7) != make(size, 8)


def test_a_plan_has_the_messages_for_the_bot_and_the_ends_that_were_asked_for() -> None:
    plan = make(Size(kills=20, messages=200, stops=3, mail=5), 7)
    assert wanted(plan) == 200
    assert sum(not say.wanted for life in plan.lives for say in life.says) > 0
    assert Counter(life.aim == "stop" for life in plan.lives) == {False: 20, True: 3}


def test_a_sweep_goes_to_each_point_so_often_and_to_what_follows_right_behind() -> None:
    plan = make(sweep(POINTS, times=3, mail=5, seed=1), 1)
    fuses = [life.fuse for life in plan.lives if life.fuse]
    assert Counter(fuse.point for fuse in fuses) == dict.fromkeys(POINTS, 3)
    for before, fuse in pairwise(fuses):
        assert POINTS[fuse.point].follows in ("", before.point)


def test_a_sweep_without_mail_leaves_out_what_mails_alone_pass() -> None:
    size = sweep(POINTS, times=1, mail=0, seed=1)
    assert not any(POINTS[fuse.point].mail for fuse in size.fuses)


def test_a_point_that_was_never_hit_is_named() -> None:
    size = sweep(["before ack", "mid-tool"], times=2, mail=0, seed=1)
    summary = Summary(points=Counter({"before ack": 1}))
    assert never_hit(size, summary) == ["mid-tool"]


def test_the_parts_of_a_run_make_up_the_whole_each_with_a_seed_of_its_own() -> None:
    whole = Size(kills=1000, messages=10_001, stops=83)
    parts = [Part(number, 7, seed=3) for number in range(1, 8)]
    sizes = [part.size(whole) for part in parts]
    assert sum(size.kills for size in sizes) == 1000
    assert sum(size.messages for size in sizes) == 10_001
    assert sum(size.stops for size in sizes) == 83
    assert len({part.own_seed for part in parts}) == 7


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", ""])
def test_a_part_that_there_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Part.named(text, seed=1)


def summary(**facts: int) -> Summary:
    counted = Counter({"messages": 100, "largest turn": 4})
    return Summary(
        commits=["abc"],
        planned_kills=10,
        planned_messages=100,
        kills=Counter({"any": 10}),
        ready=[1.5],
        figures=counted | Counter(facts),
    )


def test_parts_add_up_and_the_one_that_is_missing_is_named(tmp_path: Path) -> None:
    for number in (1, 3):
        part = Part(number, 3, seed=5)
        keep(summary(**{"largest turn": 4 + number}), part.file(tmp_path))
    whole, away = add_up(tmp_path)
    assert (whole.kills["any"], whole.figures["messages"], whole.ready) == (20, 200, [1.5, 1.5])
    assert whole.figures["largest turn"] == 7
    assert whole.commits == ["abc"]
    assert whole.clean
    assert away == ["2/3 of seed 5"]
    assert missing(tmp_path, 3, seed=5) == [Part(2, 3, seed=5)]


def test_one_broken_rule_spoils_the_sum(tmp_path: Path) -> None:
    spoilt = summary()
    spoilt.broken["lost"] += 1
    keep(summary(), Part(1, 2, seed=5).file(tmp_path))
    keep(spoilt, Part(2, 2, seed=5).file(tmp_path))
    whole, away = add_up(tmp_path)
    assert not whole.clean
    assert away == []


def test_too_few_messages_or_kills_are_not_clean() -> None:
    few = summary()
    few.planned_messages = 101
    assert not few.clean
    few.planned_messages, few.planned_kills = 100, 11
    assert not few.clean


def test_a_directory_without_parts_and_a_file_that_is_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no parts"):
        add_up(tmp_path)
    Part(1, 1, seed=1).file(tmp_path).write_text('{"kills": ')
    with pytest.raises(ValueError, match="remove it"):
        add_up(tmp_path)
