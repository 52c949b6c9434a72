from __future__ import annotations

import asyncio
import os
import signal

from daemon.signals import handled


async def until(condition: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        await condition.wait()


async def test_the_first_asks_to_stop_and_a_second_of_either_kind_to_stop_now() -> None:
    with handled(lambda: None) as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        await until(signals.stop)
        assert not signals.now.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        await until(signals.now)


async def test_a_hangup_reloads_and_stops_nothing() -> None:
    reloaded = asyncio.Event()
    with handled(reloaded.set) as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        await until(reloaded)
        assert not signals.stop.is_set()


async def test_what_was_there_before_is_there_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    with handled(lambda: None):
        pass
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
