"""`postroom run` whose mailboxes probe every three seconds and not every 45, and whose turns wait
for an approval for two seconds and not sixty: for the tests that wait until a silent server is
noticed, or until a turn has waited in vain. What is computed from the true pauses is in
tests/unit/connectors/imap/test_proof.py and tests/unit/daemon/test_approvals.py.

    python -P brisk.py run -c FILE
"""

from __future__ import annotations

from connectors.imap import connector
from connectors.imap.client import Limits
from connectors.imap.config import ImapTable
from connectors.imap.proof import Timing
from daemon import approvals
from daemon.cli import main
from daemon.plugin import Plugin, Surroundings

NOTICED_SECONDS = 3.0 + 2.0  # the pause in IDLE, and the limit on the answer to its end
PACE = connector.Pace(mailbox=Timing(idle=3.0), limits=Limits(idle=2.0))


def build(name: str, table: ImapTable, around: Surroundings) -> connector.ImapConnector:
    return connector.ImapConnector(name, table, around, pace=PACE)


if __name__ == "__main__":
    connector.PLUGIN = Plugin("imap", ImapTable, build)
    approvals.WAIT_SECONDS = 2.0
    main()
