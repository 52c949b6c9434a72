"""What `postroom doctor` says of a model that answers in each way, and of a machine too small."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from daemon.commands.doctor import _mcp, _money, examine
from daemon.config import parse
from daemon.demo.clouds import StandInVertex
from daemon.demo.model import StandInModel
from daemon.demo.script import directed
from daemon.gateway import prices


class Model:
    """An API that answers every request with one status; `asked` are the bodies."""

    def __init__(self) -> None:
        self.status = 400
        self.asked: list[Any] = []
        self.keys: list[str | None] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        self.keys.append(request.headers.get("x-api-key"))
        return web.json_response({}, status=self.status)


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    model = Model()
    app = web.Application()
    app.router.add_post("/v1/messages", model.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    model.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield model
    await runner.cleanup()


Doctor = Callable[..., Awaitable[tuple[int, dict[str, dict[str, str]]]]]


@pytest.fixture
def doctor(
    tmp_path: Path,
    model: Model,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Doctor:
    """Examine a daemon on this model: the exit status, and what was found by part."""
    monkeypatch.setenv("NO_PROXY", "*")

    async def look(*, live: bool = False, more: str = "") -> tuple[int, dict[str, dict[str, str]]]:
        configure(tmp_path, model, more)
        status = await examine(tmp_path / "postroom.toml", as_json=True, live=live)
        found = json.loads(capsys.readouterr().out)["findings"]
        return status, {row["part"]: row for row in found}

    return look


def configure(tmp_path: Path, model: Model, more: str) -> None:
    (tmp_path / "key").write_text("sk-of-the-test")
    (tmp_path / "postroom.toml").write_text(
        f'[daemon]\ndata_dir = "{tmp_path}/data"\n'
        f'[agent]\napi_url = "{model.url}"\napi_key = {{ file = "{tmp_path}/key" }}\n'
        f'[isolation]\nlevel = "none"\n'
        f'[profiles.member]\ntools = ["Read"]\nask = ["Read"]\n{more}\n'
        f'[connectors.mute]\nkind = "_skeleton"\ninbox = "{tmp_path}/in"\noutbox = "{tmp_path}"\n'
    )


@pytest.mark.parametrize(
    ("answer", "state", "mend"),
    [
        (400, "ok", ""),
        (401, "fail", "set agent.api_key"),
        (403, "fail", "set agent.api_key"),
        (404, "fail", "see agent.api_url"),
        (200, "fail", "see agent.api_url"),
        (429, "warn", "try again later"),
        (529, "warn", "try again later"),
    ],
)
async def test_the_model_is_tried_with_a_request_that_costs_nothing(
    doctor: Doctor, model: Model, answer: int, state: str, mend: str
) -> None:
    model.status = answer
    status, found = await doctor()
    assert (found["model"]["state"], found["model"]["mend"]) == (state, mend)
    (asked,) = model.asked
    assert (asked["messages"], model.keys) == ([], ["sk-of-the-test"])
    assert status == (1 if state == "fail" else 0)


async def test_a_live_trial_asks_for_one_token(doctor: Doctor, model: Model) -> None:
    model.status = 200
    _, found = await doctor(live=True)
    assert found["model"]["state"] == "ok"
    assert model.asked[0]["max_tokens"] == 1
    model.status = 400
    status, found = await doctor(live=True)
    assert (status, found["model"]["mend"]) == (1, "see agent.model")


async def test_a_model_that_is_not_reached_is_a_failure_with_a_mend(
    doctor: Doctor, model: Model
) -> None:
    model.url = "http://127.0.0.1:9"
    status, found = await doctor()
    assert (status, found["model"]["state"]) == (1, "fail")
    assert "agent.api_url" in found["model"]["mend"]
    assert found["mute"]["state"] == "warn", "the other parts are tried all the same"


async def test_what_is_left_open_is_a_warning_and_no_failure(doctor: Doctor) -> None:
    status, found = await doctor()
    assert status == 0
    for part in (
        "budgets.per_turn",
        "budgets.per_conversation",
        "budgets.per_sender_daily",
        "budgets.daily",
        "daemon.notify",
        "isolation",
        "trust.operators",
    ):
        assert found[part]["state"] == "warn", part
        assert found[part]["mend"], part
    limits = "[budgets]\nper_turn = 1.0\ndaily = 5.0\n[pool]\nmax_processes = 100000"
    _, found = await doctor(more=limits)
    assert "budgets.daily" not in found
    assert (found["memory"]["state"], found["memory"]["mend"]) == (
        "warn",
        "lower pool.max_processes",
    )


MUTE = {"connectors": {"mute": {"kind": "_skeleton", "inbox": "in", "outbox": "out"}}}


@pytest.mark.parametrize(("days", "state"), [(120, "pass"), (121, "warn")])
def test_prices_that_are_old_are_a_warning(days: int, state: str) -> None:
    findings = {each.part: each for each in _money(parse(MUTE), prices.AS_OF + timedelta(days))}
    assert findings["prices"].state == state
    assert "prices.model" not in findings


def test_a_model_without_a_price_is_a_warning() -> None:
    config = parse({"agent": {"model": "vendor/model-1"}, **MUTE})
    findings = {each.part: each for each in _money(config, prices.AS_OF)}
    assert "vendor/model-1" in findings["prices.model"].detail


async def test_a_bad_configuration_is_the_one_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "postroom.toml"
    file.write_text("[daemon]\nx = 1\n[connectors.mute]\nkind = '_skeleton'\n")
    assert await examine(file, as_json=False, live=False) == 1
    line, *rest = capsys.readouterr().out.splitlines()
    assert line.startswith("fail  configuration")
    assert "there is no such key" in line or "Field required" in line
    assert rest == []


async def test_a_cloud_is_tried_in_its_own_way(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        StandInModel(directed) as standing,
        StandInVertex(standing.url, "") as cloud,
        StandInVertex(standing.url, "") as other,
    ):
        account = tmp_path / "account.json"
        table = {
            "UPSTREAM": "vertex",
            "REGION": cloud.region,
            "API_URL": cloud.url,
            "API_KEY": f'{{ file = "{account}" }}',
        }
        for name, value in table.items():
            monkeypatch.setenv(f"POSTROOM__AGENT__{name}", value)
        account.write_text(cloud.key_file())
        for live in (False, True):
            _, found = await doctor(live=live)
            assert found["model"]["state"] == "ok"
        account.write_text(other.key_file().replace(other.url, cloud.url))
        status, found = await doctor()
        assert (status, found["model"]["detail"]) == (1, "the key is refused")
        broken = json.loads(cloud.key_file()) | {"private_key": "no PEM"}
        account.write_text(json.dumps(broken))
        status, found = await doctor()
        assert (status, found["model"]["mend"]) == (1, "set agent.api_key")
        assert "no RSA key in PEM" in found["model"]["detail"]
        assert "isolation" in found, "what else there is to say is said, too"


@pytest.mark.parametrize(("program", "state"), [("sh", "pass"), ("/no/such/program", "fail")])
def test_an_mcp_server_has_to_be_a_program_that_is_there(program: str, state: str) -> None:
    found = _mcp("notes", program)
    assert (found.part, found.state) == ("mcp:notes", state)
    assert "mcp.notes.command" in found.mend
