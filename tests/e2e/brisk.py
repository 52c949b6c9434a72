"""`postroom run` whose mailboxes probe every three seconds instead of every 45: for the tests that
wait until a silent server is noticed. What is computed from the true pauses is in
tests/unit/connectors/imap/test_proof.py.

    python -P brisk.py run -c FILE
"""

from __future__ import annotations

from connectors.imap import connector
from connectors.imap.client import Limits
from connectors.imap.config import ImapTable
from connectors.imap.proof import Timing
from daemon.cli import main
from daemon.plugin import Plugin, Surroundings

NOTICED_SECONDS = 3.0 + 2.0  # the pause in IDLE, and the limit on the answer to its end
PACE = connector.Pace(mailbox=Timing(idle=3.0), limits=Limits(idle=2.0))


def build(name: str, table: ImapTable, around: Surroundings) -> connector.ImapConnector:
    return connector.ImapConnector(name, table, around, pace=PACE)


if __name__ == "__main__":
    connector.PLUGIN = Plugin("imap", ImapTable, build)
    main()
