"""When what can wait outside is left there: too much waits, or the disk is nearly full."""

from __future__ import annotations

from pathlib import Path

from daemon.model import HealthState
from daemon.room import LOW_BYTES, MOST_WAITING, Disk, Room, disk_of

GIB = 2**30


class Place:
    """What a room looks at, as a test sets it."""

    def __init__(self) -> None:
        self.waiting = 0
        self.disk = Disk(100 * GIB, 50 * GIB)
        self.room = Room(waiting=lambda: self.waiting, look=lambda: self.disk)


def test_there_is_room_on_an_ordinary_day() -> None:
    place = Place()
    assert place.room.full() == ""
    assert place.room.health().state is HealthState.PASS


def test_too_many_that_wait_keep_mail_outside_until_some_are_done() -> None:
    place = Place()
    place.waiting = MOST_WAITING - 1
    assert place.room.full() == ""
    place.waiting = MOST_WAITING
    assert str(MOST_WAITING) in place.room.full()
    place.waiting = MOST_WAITING - 1
    assert place.room.full(), "no stop and go at the edge"
    place.waiting = int(MOST_WAITING * 0.9)
    assert place.room.full() == ""


def test_ten_thousand_mails_are_not_too_many() -> None:
    place = Place()
    place.waiting = 10_000
    assert place.room.full() == ""


def test_a_disk_that_is_nearly_full_is_a_warning_and_keeps_mail_outside() -> None:
    place = Place()
    place.disk = Disk(100 * GIB, LOW_BYTES - 1)
    assert "511 MiB" in place.room.full()
    health = place.room.health()
    assert (health.state, health.ready) == (HealthState.WARN, True), "chat is still taken"
    assert "make room" in health.detail
    place.disk = Disk(100 * GIB, LOW_BYTES)
    assert place.room.full()
    place.disk = Disk(100 * GIB, int(1.2 * LOW_BYTES))
    assert place.room.full() == ""
    assert place.room.health().state is HealthState.PASS


def test_a_small_disk_is_full_by_its_share() -> None:
    place = Place()
    place.disk = Disk(100 * 2**20, 20 * 2**20)
    assert place.room.full() == ""
    place.disk = Disk(100 * 2**20, 4 * 2**20)
    assert place.room.full()


def test_the_disk_is_that_of_the_directory(tmp_path: Path) -> None:
    disk = disk_of(tmp_path)
    assert 0 < disk.free <= disk.size
