"""The OpenAPI page is true: Schemathesis asks the real pages for what it says, and for what it
does not say.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from daemon.approvals import Ruling
from daemon.budgets import Budget, Scope, Statement, read_budget
from daemon.clock import ManualClock
from daemon.guard import PROBES
from daemon.health import HealthRegistry, LoopPulse
from daemon.httpd import Doors, application
from daemon.ledger import SqliteLedger, open_ledger
from daemon.metrics import Metrics
from daemon.model import Health, HealthState, JsonObject, TurnState, Unreadable
from daemon.ports import Ending
from daemon.serving import serving
from tests.ledgers import IMPLEMENTATIONS, Stage

TOKEN = "a-token-of-the-tests-0123"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
EXAMPLES = 25  # of each operation and kind

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Site:
    """The pages of a daemon that has done something, on a loop and a thread of their own."""

    root: Path
    url: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    _ready: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> Callable[[], None]:
        """Returns how to stop it."""
        thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        thread.start()
        assert self._ready.wait(60)

        def stop() -> None:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(60)
            assert not thread.is_alive()

        return stop

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        clock = ManualClock()
        ledger = await open_ledger(self.root, clock)
        await self._live(ledger, clock)
        async with serving(application(_doors(ledger, clock)), "127.0.0.1", 0) as port:
            self.url = f"http://127.0.0.1:{port}"
            self._ready.set()
            await self._stop.wait()
        await ledger.close()

    async def _live(self, ledger: SqliteLedger, clock: ManualClock) -> None:
        """A message answered, one given up on, one that could not be read, and one that waits."""
        stage = Stage(IMPLEMENTATIONS[0], self.root, ledger, clock)
        turn = await stage.sent(conversation="answered")
        dead = await stage.running(conversation="dead")
        await ledger.end_turn(dead.id, Ending(TurnState.DEAD, "", "three failures"))
        await ledger.register(Unreadable("mail", "1", "odd", b"\xff"))
        await stage.hear(stage.message(conversation="waits"))
        self.ids = {"turn": turn.id, "message": turn.messages[0].id, "dead": dead.id}


def _doors(ledger: SqliteLedger, clock: ManualClock) -> Doors:
    metrics, registry = Metrics(), HealthRegistry()
    registry.add("ledger", lambda: Health(HealthState.PASS, numbers={"waiting": 1}))
    registry.add("model", lambda: Health(HealthState.WARN, "429 of late", age=1.5))

    async def stop(conversation: str) -> bool:
        return bool(conversation == "waits")

    async def retry(any_id: str) -> bool:
        return await ledger.dead_retry(any_id) is not None

    async def erase(who: str) -> int:
        return len(await ledger.erase(who))

    async def decide(code: str, approve: bool) -> Ruling:
        return Ruling(approve, f"there is no {code}")

    async def budgets() -> tuple[Statement, ...]:
        return (Statement(Budget(Scope.ALL), 50.0, 7.5, 0.5, 0.0, closed=False),)

    async def raise_budget(name: str, dollars: float, until: float | None) -> JsonObject:
        return {"budget": str(read_budget(name)), "dollars": dollars, "until": until}

    return Doors(
        registry=registry,
        loop=LoopPulse(clock, metrics),
        metrics=metrics,
        ledger=ledger,
        about=lambda: {
            "version": "9",
            "versions": {"postroom": "9"},
            "uptime_seconds": 1.0,
            "isolation": "landlock",
            "notices": [],
        },
        refresh=lambda: None,
        stop=stop,
        retry=retry,
        erase=erase,
        decide=decide,
        budgets=budgets,
        raise_budget=raise_budget,
        token=lambda: TOKEN,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    stop = site.start()
    yield site
    stop()


@pytest.fixture(scope="module")
def page(site: Site) -> Any:
    told = requests.get(f"{site.url}/api/v1/openapi.json", headers=SHOWN, timeout=60)
    return schemathesis.openapi.from_dict(told.json())


OPERATIONS = [
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/api/v1/status"),
    ("GET", "/api/v1/trace/{id}"),
    ("GET", "/api/v1/dead"),
    ("POST", "/api/v1/dead/{id}/retry"),
    ("POST", "/api/v1/dead/{id}/discard"),
    ("GET", "/api/v1/conversations"),
    ("GET", "/api/v1/conversations/{id}"),
    ("POST", "/api/v1/conversations/{id}/stop"),
    ("POST", "/api/v1/conversations/{id}/erase"),
    ("POST", "/api/v1/approvals/{id}/approve"),
    ("POST", "/api/v1/approvals/{id}/deny"),
    ("GET", "/api/v1/budgets"),
    ("POST", "/api/v1/budgets/{id}/raise/{dollars}"),
    ("POST", "/api/v1/budgets/{id}/raise/{dollars}/until/{until}"),
]


def test_the_page_tells_of_all_that_is_served(page: Any) -> None:
    told = {
        (operation.ok().method.upper(), operation.ok().path)
        for operation in page.get_all_operations()
    }
    assert told == set(OPERATIONS)


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        (method, path, mode)
        for method, path in OPERATIONS
        for mode in GenerationMode
        # Of what everybody may ask and nobody can ask otherwise there is no wrong form.
        if mode is GenerationMode.POSITIVE or path not in PROBES
    ],
)
def test_it_answers_as_the_page_says(
    site: Site, page: Any, method: str, path: str, mode: GenerationMode
) -> None:
    operation = page[path][method]

    @fuzzed
    @given(case=operation.as_strategy(generation_mode=mode))
    def answers(case: Any) -> None:
        case.call_and_validate(base_url=site.url, headers=SHOWN)

    answers()


@pytest.mark.parametrize("asked", ["turn", "message", "dead"])
def test_what_is_known_has_the_shape_that_the_page_says(site: Site, page: Any, asked: str) -> None:
    case = page["/api/v1/trace/{id}"]["GET"].Case(path_parameters={"id": site.ids[asked]})
    assert case.call_and_validate(base_url=site.url, headers=SHOWN).status_code == 200


def test_a_conversation_has_the_shape_that_the_page_says(site: Site, page: Any) -> None:
    case = page["/api/v1/conversations/{id}"]["GET"].Case(path_parameters={"id": "answered"})
    assert case.call_and_validate(base_url=site.url, headers=SHOWN).status_code == 200


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_any_method_of_http_is_answered_in_kind(site: Site, method: str, path: str) -> None:
    """Nothing else than what the page says can be done, and nothing breaks of it."""
    for other in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        if other == method:
            continue
        asked = site.url + re.sub(r"{\w+}", "nothing", path)
        headers = {**SHOWN, "X-Postroom": "1"}
        answer = requests.request(other, asked, headers=headers, data="{}", timeout=60)
        assert answer.status_code == 405, other
        assert method in answer.headers["Allow"].split(",")
