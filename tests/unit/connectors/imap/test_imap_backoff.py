from __future__ import annotations

from connectors.imap.backoff import FIRST_WAIT, LONGEST_UNREACHED, LONGEST_WAIT, BackOff


def waits(backoff: BackOff, times: int, *, reached: bool, start: float = 0.0) -> list[float]:
    now, found = start, []
    for _ in range(times):
        found.append(backoff.failed(now, reached=reached))
        now += found[-1]
    return found


def test_a_server_that_is_away_is_found_within_a_tenth_of_its_absence() -> None:
    found = waits(BackOff(), 200, reached=False)
    gone = 0.0
    for wait in found:
        assert wait <= max(FIRST_WAIT, gone / 10) + 1e-9
        gone += wait
    assert found[0] == FIRST_WAIT
    assert found[-1] == LONGEST_UNREACHED


def test_logins_that_never_lead_to_work_become_rare() -> None:
    found = waits(BackOff(), 20, reached=True)
    assert found[:4] == [0.25, 0.5, 1.0, 2.0]
    assert found[-1] == LONGEST_WAIT
    assert sum(wait < LONGEST_WAIT for wait in found) == 8  # in the first minute, and no more


def test_a_connection_that_is_cut_now_and_then_is_back_within_five_seconds() -> None:
    backoff, now = BackOff(), 0.0
    for _ in range(100):
        backoff.proven()
        now += 10.0  # it lived so long
        wait = backoff.failed(now, reached=True)
        assert wait < 5.0
        now += wait


def test_a_connection_that_breaks_as_soon_as_it_works_is_not_hammered() -> None:
    backoff, now, logins = BackOff(), 0.0, 0
    while now < 3600:
        backoff.proven()
        logins += 1
        now += 0.1 + backoff.failed(now + 0.1, reached=True)
    assert logins < 900  # an hour


def test_an_outage_ends_with_the_next_proof() -> None:
    backoff = BackOff()
    waits(backoff, 100, reached=False)
    backoff.proven()
    assert backoff.failed(10_000, reached=False) == FIRST_WAIT
