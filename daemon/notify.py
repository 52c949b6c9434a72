"""People to tell: whatever needs a person goes to `daemon.notify`, to the log and to `/healthz`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import structlog

from daemon.errors import LedgerError
from daemon.ports import Connector, Ledger, Notifies

log = structlog.get_logger()

KEPT = 50  # how many of the latest notices `/healthz` shows


class Notifier:
    """Writes notices as effects of the connectors that can carry them, outside conversations."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        addresses: tuple[str, ...],
        connectors: Mapping[str, Connector],
        wake_delivery: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self.addresses = addresses
        self._connectors = connectors
        self._wake_delivery = wake_delivery
        self.latest: deque[str] = deque(maxlen=KEPT)

    async def tell(self, key: str, text: str, aside: str = "") -> None:
        """The port `Tell`."""
        log.warning("operators.told", about=key, text=text)
        self.latest.append(text)
        whole = "\n".join(filter(None, (text, aside)))
        for address in self.addresses:
            scheme, _, rest = address.partition(":")
            for connector in self._connectors.values():
                if isinstance(connector, Notifies) and connector.scheme == scheme:
                    notice = connector.compose_notice(f"{key}/{address}", rest, whole)
                    try:
                        await self._ledger.add_effects((notice,))
                    except LedgerError:
                        log.exception("notice.unwritten", about=key)
                    self._wake_delivery(connector.name)
                    break
