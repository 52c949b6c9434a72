"""A profile with a list, in a whole daemon: what its shell is told, and where that is recorded."""

from __future__ import annotations

import json

import aiohttp
import pytest

from daemon.demo.slack import StandInSlack
from tests.e2e.conftest import NewDaemon

pytestmark = pytest.mark.e2e

ADA, GENERAL = "U0001", "C0001"  # Ada is an operator
# A name that is on the list and leads nowhere (RFC 6761), so that nothing leaves this machine.
LISTED, UNLISTED = "mirror.invalid", "elsewhere.invalid"
FETCH = (
    f"for host in {LISTED} {UNLISTED}; do python3 -c "
    "'import sys, urllib.request; urllib.request.urlopen(\"https://\" + sys.argv[1])' $host"
    " 2>&1 | tail -n 1; done"
)


async def test_a_shell_is_let_out_by_its_list_only_and_all_of_it_is_told(
    new_daemon: NewDaemon, slack: StandInSlack
) -> None:
    daemon = new_daemon(
        profiles__operator={"tools": ["Bash"], "egress": [f"{LISTED}:443"]},
        trust={"operators": ["slack:T0001:U0001"]},
    )
    async with daemon:
        said = slack.mention(ADA, GENERAL, f"[[tool:Bash {json.dumps({'command': FETCH})}]]")
        listed, unlisted = (await slack.wait_for_answer(said, within=100)).text.strip().splitlines()
        assert "502 This" in listed, listed  # not found, or no name server to ask
        assert "403 This host and port are not on the list" in unlisted

        _, exported, _ = await daemon.run("audit", "export")
        records = [json.loads(line) for line in exported.splitlines()]
        refused = [record for record in records if record["what"] == "egress.refused"]
        verdicts = [record["facts"]["verdict"] for record in refused]
        assert verdicts[0] in {"unresolved", "unreachable"}
        assert verdicts[1:] == ["not_listed"]
        assert UNLISTED not in exported, "which hosts it thought of is a digest"
        async with aiohttp.ClientSession(f"http://127.0.0.1:{daemon.port}") as http:
            async with http.get("/healthz") as answer:
                component = (await answer.json())["components"]["egress"]
            async with http.get("/metrics") as answer:
                metrics = await answer.text()
        assert "not_listed" in str(component)
        assert 'postroom_egress_connections_total{outcome="not_listed"} 1.0' in metrics
