from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession

from daemon.approvals import Ruling
from daemon.budgets import Budget, Scope, Statement, read_budget
from daemon.clock import ManualClock
from daemon.health import HealthRegistry, LoopPulse
from daemon.httpd import Doors, application
from daemon.ledger import SqliteLedger, open_ledger
from daemon.metrics import Metrics
from daemon.model import Health, HealthState, TurnState, Unreadable
from daemon.ports import Ending
from daemon.serving import serving
from tests.ledgers import IMPLEMENTATIONS, Stage

OURS = {"X-Postroom": "1"}


class Site:
    """The pages of a daemon that has a ledger and nothing else, served on loopback."""

    def __init__(self, ledger: SqliteLedger, clock: ManualClock) -> None:
        self.clock = clock
        self.ledger = ledger
        self.registry = HealthRegistry()
        self.metrics = Metrics()
        self.stopped: list[str] = []
        self.decided: list[tuple[str, bool]] = []
        self.token: str | None = None
        self.doors = Doors(
            registry=self.registry,
            loop=LoopPulse(clock, self.metrics),
            metrics=self.metrics,
            ledger=ledger,
            about=lambda: {"version": "9", "isolation": "landlock", "uptime_seconds": 1.0},
            refresh=lambda: None,
            stop=self._stop,
            retry=self._retry,
            erase=self._erase,
            decide=self._decide,
            token=lambda: self.token,
            budgets=self._budgets,
            raise_budget=self._raise,
        )
        self.url = ""
        self.session = ClientSession()

    async def _stop(self, conversation: str) -> bool:
        self.stopped.append(conversation)
        return conversation == "slack:T1:C1/7"

    async def _retry(self, any_id: str) -> bool:
        return await self.ledger.dead_retry(any_id) is not None

    async def _erase(self, who: str) -> int:
        return len(await self.ledger.erase(who))

    async def _decide(self, approval: str, approve: bool) -> Ruling:
        known = approval == "apr-1"
        self.decided.append((approval, approve))
        return Ruling(known, "" if known else "It has expired.")

    async def _budgets(self) -> tuple[Statement, ...]:
        return (Statement(Budget(Scope.SENDER, "slack:T1:U1"), 20.0, 7.5, 0.5, 5.0, closed=False),)

    async def _raise(self, budget: str, dollars: float, until: float | None) -> dict[str, object]:
        read_budget(budget)
        return {"budget": budget, "dollars": dollars, "until": until}

    async def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        async with self.session.request(method, self.url + path, headers=headers) as answer:
            text = await answer.text()
            kind = answer.content_type
            return answer.status, json.loads(text) if kind.endswith("json") else text


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    clock = ManualClock()
    ledger = await open_ledger(tmp_path, clock)
    site = Site(ledger, clock)
    async with serving(application(site.doors), "127.0.0.1", 0) as port:
        site.url = f"http://127.0.0.1:{port}"
        yield site
        await site.session.close()
    await ledger.close()


# --- health ---------------------------------------------------------------------------------------


async def test_it_lives_while_the_loop_turns_whatever_else_is_down(site: Site) -> None:
    site.registry.add("connector:slack", lambda: Health(HealthState.FAIL, "down", ready=False))
    assert await site.ask("/livez") == (200, "ok\n")
    await site.clock.advance(6)
    assert (await site.ask("/livez"))[0] == 503


async def test_readiness_names_what_it_waits_for(site: Site) -> None:
    site.registry.add("ledger", lambda: Health(HealthState.PASS))
    assert (await site.ask("/readyz"))[0] == 200
    site.registry.add("connector:slack", lambda: Health(HealthState.WARN, "no pong", ready=False))
    status, told = await site.ask("/readyz")
    assert status == 503
    assert told == {
        "ready": False,
        "waiting_for": {"connector:slack": "no pong"},
        "isolation": "landlock",
    }


async def test_health_is_told_by_component_with_its_numbers(site: Site) -> None:
    site.registry.add("pool", lambda: Health(HealthState.PASS, numbers={"max": 8}))
    site.registry.add("model", lambda: Health(HealthState.WARN, "429 of late", age=1.23456))
    status, told = await site.ask("/healthz")
    assert (status, told["status"], told["version"]) == (200, "warn", "9")
    assert told["components"] == {
        "pool": {
            "state": "pass",
            "ready": True,
            "detail": "",
            "age_seconds": None,
            "numbers": {"max": 8},
        },
        "model": {
            "state": "warn",
            "ready": True,
            "detail": "429 of late",
            "age_seconds": 1.235,
            "numbers": {},
        },
    }
    site.registry.add("ledger", lambda: Health(HealthState.FAIL, "disk full", ready=False))
    assert (await site.ask("/healthz"))[0] == 503
    status, told = await site.ask("/api/v1/status")
    assert (status, told["ready"]) == (200, False), "asked by a person: an answer, not an alarm"


async def test_metrics_are_prometheus_text(site: Site) -> None:
    status, page = await site.ask("/metrics")
    assert status == 200
    assert "# TYPE postroom_queue_depth gauge" in page


# --- who may ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "[::2]:80", ""])
async def test_a_name_that_is_not_this_machines_is_refused(site: Site, host: str) -> None:
    assert (await site.ask("/api/v1/status", headers={"Host": host}))[0] in {400, 403}


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080"])
async def test_this_machines_names_are_taken(site: Site, host: str) -> None:
    assert (await site.ask("/livez", headers={"Host": host}))[0] == 200


async def test_a_probe_by_head_is_answered(site: Site) -> None:
    assert (await site.ask("/livez", "HEAD"))[0] == 200


@pytest.mark.parametrize(
    "headers", [{}, {"X-Postroom": "yes"}, {**OURS, "Origin": "http://localhost:8080"}]
)
async def test_no_page_in_a_browser_can_change_anything(
    site: Site, headers: dict[str, str]
) -> None:
    path = "/api/v1/conversations/t1/stop"
    assert (await site.ask(path, "POST", headers))[0] == 403
    assert site.stopped == []
    assert (await site.ask(path, "GET", OURS))[0] == 405


async def test_no_page_may_read_either(site: Site) -> None:
    assert (await site.ask("/metrics", headers={"Origin": "http://evil.example"}))[0] == 403


async def test_nothing_is_changed_by_reading(site: Site) -> None:
    """Whatever the page says can be changed cannot be by GET."""
    _, page = await site.ask("/api/v1/openapi.json")
    changing = [path for path, operations in page["paths"].items() if "post" in operations]
    assert len(changing) > 3
    for path in changing:
        assert "get" not in page["paths"][path]
        for method in ("GET", "HEAD"):
            asked = site.url + re.sub(r"{\w+}", "t1", path)
            async with site.session.request(method, asked, headers=OURS) as answer:
                assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_what_came_through_a_proxy_did_not_come_from_this_machine(site: Site) -> None:
    through = {"X-Forwarded-For": "192.0.2.1"}
    assert (await site.ask("/api/v1/status", headers=through))[0] == 401
    assert await site.ask("/healthz", headers=through) == (200, {"status": "pass"})


# --- with a token ---------------------------------------------------------------------------------

TOKEN = "a-token-of-the-tests-0123"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
PUBLIC = {"Host": "postroom.example.com:8080"}
BY_ADDRESS = {"Host": "192.0.2.7:8080"}


@pytest.mark.parametrize("path", ["/api/v1/status", "/metrics", "/api/v1/openapi.json"])
@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \u00e9"},
        {"X-Api-Key": TOKEN},
    ],
)
async def test_with_a_token_nobody_is_told_without_it(
    site: Site, path: str, shown: dict[str, str]
) -> None:
    site.token = TOKEN
    async with site.session.get(site.url + path, headers=shown) as answer:
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    async with site.session.get(f"{site.url}{path}?token={TOKEN}", headers=shown) as answer:
        assert answer.status == 401


async def test_with_its_token_the_daemon_is_reached_by_any_name(site: Site) -> None:
    site.token = TOKEN
    for host in (PUBLIC, BY_ADDRESS, {}):
        assert (await site.ask("/api/v1/status", headers=SHOWN | host))[0] == 200
    assert (await site.ask("/metrics", headers={"Authorization": f"bearer  {TOKEN}"}))[0] == 200
    path = "/api/v1/conversations/slack:T1:C1%2F7/stop"
    assert (await site.ask(path, "POST", SHOWN | PUBLIC))[0] == 403, "a change needs its mark too"
    assert (await site.ask(path, "POST", SHOWN | PUBLIC | OURS))[0] == 200


async def test_probes_are_answered_without_the_token_and_tell_no_details(site: Site) -> None:
    site.token = TOKEN
    site.registry.add("ledger", lambda: Health(HealthState.FAIL, "disk full", ready=False))
    assert await site.ask("/livez", headers=BY_ADDRESS) == (200, "ok\n")
    status, told = await site.ask("/readyz", headers=BY_ADDRESS)
    assert (status, told["waiting_for"]) == (503, {"ledger": ""})
    assert await site.ask("/healthz", headers=BY_ADDRESS) == (503, {"status": "fail"})
    for headers in ({}, SHOWN | PUBLIC):
        _, told = await site.ask("/healthz", headers=headers)
        assert told["components"]["ledger"]["detail"] == "disk full"
    assert (await site.ask("/livez", headers=PUBLIC))[0] == 403, "a name may be rebound"


async def test_a_new_token_counts_from_the_next_request_on(site: Site) -> None:
    site.token = TOKEN
    assert (await site.ask("/metrics", headers=SHOWN))[0] == 200
    site.token = "another-token-of-the-tests"
    assert (await site.ask("/metrics", headers=SHOWN))[0] == 401


async def test_an_answer_ends_its_connection_and_says_little_of_who_answers(site: Site) -> None:
    async with site.session.get(site.url + "/livez") as answer:
        assert answer.headers["Connection"] == "close"
        assert answer.headers["Server"] == "Postroom"
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_defect_tells_nothing_of_itself(site: Site) -> None:
    await site.ledger.close()
    status, told = await site.ask("/api/v1/dead")
    assert (status, told) == (500, {"error": "internal error; see the daemon's log"})


# --- what commands ask ----------------------------------------------------------------------------


async def test_stories_and_letters_are_read_and_acted_on(site: Site, tmp_path: Path) -> None:
    words = Stage(IMPLEMENTATIONS[0], tmp_path, site.ledger, site.clock)
    turn = await words.running(conversation="slack:T1:C1/7")
    await site.ledger.end_turn(turn.id, Ending(TurnState.DEAD, "", "three failures"))
    await site.ledger.register(Unreadable("mail", "1", "odd", b"\xff"))
    status, told = await site.ask("/api/v1/dead")
    turn_letter, mail_letter = told["dead"]
    assert (status, turn_letter["id"], mail_letter["reason"]) == (200, turn.id, "odd")
    status, story = await site.ask(f"/api/v1/trace/{turn.id}")
    assert (status, story["turns"][0]["state"]) == (200, "dead")
    status, listed = await site.ask("/api/v1/conversations")
    assert [row["id"] for row in listed["conversations"]] == ["slack:T1:C1/7"]
    status, _ = await site.ask("/api/v1/conversations/slack:T1:C1%2F7")
    assert status == 200
    for path, wanted in (
        (f"/api/v1/dead/{turn.id}/retry", {"done": True}),
        (f"/api/v1/dead/{mail_letter['id']}/discard", {"done": True}),
        ("/api/v1/conversations/slack:T1:C1%2F7/stop", {"done": True}),
        ("/api/v1/conversations/slack:T1:C1%2F7/erase", {"erased": 1}),
    ):
        assert await site.ask(path, "POST", OURS) == (200, wanted)
    assert site.stopped == ["slack:T1:C1/7"]


async def test_a_word_on_an_approval_is_passed_on_and_why_it_does_not_count_is_told(
    site: Site,
) -> None:
    for action in ("approve", "deny"):
        path = f"/api/v1/approvals/apr-1/{action}"
        assert await site.ask(path, "POST", OURS) == (200, {"done": True})
    told = {"done": False, "told": "It has expired."}
    assert await site.ask("/api/v1/approvals/apr-2/approve", "POST", OURS) == (404, told)
    assert site.decided == [("apr-1", True), ("apr-1", False), ("apr-2", True)]


async def test_an_unknown_id_is_no_error_of_ours(site: Site) -> None:
    for path in ("trace/nothing", "conversations/nothing"):
        status, told = await site.ask(f"/api/v1/{path}")
        assert (status, told) == (404, {"error": "nothing is known by this id"})
    for path in ("dead/nothing/retry", "dead/nothing/discard", "conversations/nothing/stop"):
        assert await site.ask(f"/api/v1/{path}", "POST", OURS) == (404, {"done": False})
    assert (await site.ask("/nowhere"))[0] == 404


async def test_budgets_are_shown_with_what_is_spent_and_added(site: Site) -> None:
    status, told = await site.ask("/api/v1/budgets")
    assert status == 200
    assert told == {
        "budgets": [
            {
                "budget": "per_sender_daily:slack:T1:U1",
                "limit_usd": 20.0,
                "spent_usd": 7.5,
                "held_usd": 0.5,
                "raised_usd": 5.0,
                "closed": False,
            }
        ]
    }


async def test_a_budget_is_raised_by_its_name_and_an_amount(site: Site) -> None:
    name = quote("per_sender_daily:slack:T1:U1", safe="")
    status, told = await site.ask(f"/api/v1/budgets/{name}/raise/2.5", "POST", OURS)
    assert (status, told["budget"]) == (200, "per_sender_daily:slack:T1:U1")
    assert (told["dollars"], told["until"]) == (2.5, None)
    _, told = await site.ask("/api/v1/budgets/daily/raise/1/until/1800000000.0", "POST", OURS)
    assert told["until"] == 1_800_000_000.0


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("weekly/raise/1", "there is no budget 'weekly'"),
        ("daily/raise/-1", "above nought"),
        ("daily/raise/nan", "above nought"),
        ("daily/raise/inf", "above nought"),
        ("daily/raise/much", "above nought"),
        ("daily/raise/1/until/nan", "above nought"),
    ],
)
async def test_what_is_no_budget_or_no_amount_is_told(site: Site, path: str, told: str) -> None:
    status, answer = await site.ask(f"/api/v1/budgets/{path}", "POST", OURS)
    assert status == 404
    assert told in answer["error"]
