"""`postroom doctor`: tries each part, and says for each how it stands and how to mend it."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
from collections.abc import Awaitable, Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path

import aiohttp
import typer

from daemon import config as configuration
from daemon.clock import SystemClock
from daemon.config import Config
from daemon.errors import ConfigError, PostroomError, WallError
from daemon.gateway import dialect_of
from daemon.gateway.body import judge
from daemon.gateway.rules import MESSAGES, Endpoint
from daemon.gateway.upstreams import KeyRefusedError, Order, Wish
from daemon.machine import memory_bytes
from daemon.model import Finding, HealthState, Trust
from daemon.plugin import Surroundings, load
from daemon.ports import Connector, Diagnoses

OK, WARN, FAIL = HealthState.PASS, HealthState.WARN, HealthState.FAIL
_WORDS = {OK: "ok", WARN: "warn", FAIL: "fail"}
MEMORY_EACH_MB = 400  # a live process at real work (agent-sdk: 250 to 400 MB)
LOW_DISK_BYTES = 2 * 2**30
LIVE_SECONDS = 30.0


async def examine(path: Path | None, *, as_json: bool, live: bool) -> int:
    """Print all findings; 1 when one of them is fail."""
    try:
        config = configuration.read(path)
    except ConfigError as error:
        return _print([Finding("configuration", FAIL, str(error), "postroom init")], as_json)
    findings = [Finding("configuration", OK, str(configuration.find(path, os.environ) or "env"))]
    findings += list(_machine(config))
    try:
        configuration.load_secrets(config, dict(os.environ))
    except ConfigError as error:
        findings.append(Finding("secrets", FAIL, str(error), "set it, then run this again"))
        return _print(findings, as_json)
    findings.append(Finding("secrets", OK, "all read"))
    trials: list[Awaitable[tuple[Finding, ...]]] = [_walls(config), _model(config, live=live)]
    trials += [_connector(config, name, live=live) for name in config.connectors]
    for found in await asyncio.gather(*trials):
        findings += found
    return _print(findings, as_json)


def _print(findings: list[Finding], as_json: bool) -> int:
    if as_json:
        rows = [{**asdict(found), "state": _WORDS[found.state]} for found in findings]
        typer.echo(json.dumps({"findings": rows}, indent=2))
    else:
        for found in findings:
            mend = f"  -> {found.mend}" if found.mend and found.state is not OK else ""
            typer.echo(f"{_WORDS[found.state]:5} {found.part:22} {found.detail}{mend}")
    return 1 if any(found.state is FAIL for found in findings) else 0


def _machine(config: Config) -> Iterator[Finding]:
    yield from _versions()
    yield _data_dir(config.daemon.data_dir)
    memory = memory_bytes() // 2**20
    wanted = config.pool.max_processes * MEMORY_EACH_MB
    yield Finding(
        "memory",
        OK if wanted < memory else WARN,
        f"{memory} MB here; {config.pool.max_processes} processes want about {wanted} MB",
        "lower pool.max_processes",
    )
    yield from _money(config, datetime.now(UTC).date())
    asks = any(config.profiles.profile(trust).ask for trust in Trust)
    if asks and not config.trust.operators:
        found = "nobody can press a button: only `postroom approvals` decides"
        mend = 'as operators = ["slack:T0001:U0001"]'
        yield Finding("trust.operators", WARN, found, mend)
    for name, table in config.mcp.items():
        yield _mcp(name, table.command[0])
    if not config.daemon.notify:
        yield Finding(
            "daemon.notify", WARN, "nobody is told of troubles", 'as notify = ["slack:C0001"]'
        )


def _mcp(name: str, program: str) -> Finding:
    from daemon.mcp_servers.server import PATH

    found = shutil.which(program, path=PATH)
    mend = f"install it, or write its whole path in mcp.{name}.command"
    return Finding(f"mcp:{name}", OK if found else FAIL, found or f"no program {program}", mend)


def _money(config: Config, today: date) -> Iterator[Finding]:
    """Budgets without a limit, and prices by which all of them are counted."""
    from daemon.gateway import prices

    bounds = ["per_turn", "per_conversation", "per_sender_daily", "daily"]
    if config.answers_strangers():
        bounds.append("public_daily")
    for key in bounds:
        if getattr(config.budgets, key) is None:
            yield Finding(f"budgets.{key}", WARN, "no limit", f"set budgets.{key}")
    stale = prices.is_stale(today)
    yield Finding(
        "prices",
        WARN if stale else OK,
        f"of {prices.AS_OF}",
        "they may have changed: update Postroom, or lower the budgets",
    )
    if prices.tariff(config.agent.model) is None:
        yield Finding(
            "prices.model",
            WARN,
            f"{config.agent.model} has none here, and counts as the dearest model",
            "name a model of the table in daemon/gateway/prices.py, or set budgets by that",
        )


def _versions() -> Iterator[Finding]:
    from daemon.versions import versions

    found = versions()
    yield Finding("versions", OK, ", ".join(f"{name} {text}" for name, text in found.items()))
    own = Path(__file__).resolve().parents[1] / "__init__.py"
    import daemon

    if Path(str(daemon.__file__)).resolve() != own:
        yield Finding(
            "package", FAIL, "the name `daemon` belongs to another package", "own environment"
        )
    if platform.libc_ver()[0] != "glibc":
        yield Finding("libc", FAIL, "the claude CLI is built for glibc", "use a glibc system")


def _data_dir(data_dir: Path) -> Finding:
    part = "data_dir"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = data_dir / ".doctor"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        return Finding(part, FAIL, f"{data_dir}: {error.strerror}", "set daemon.data_dir")
    free = shutil.disk_usage(data_dir).free
    state = OK if free > LOW_DISK_BYTES else WARN
    return Finding(part, state, f"{data_dir.resolve()}: {free // 2**20} MB free", "make room")


async def _walls(config: Config) -> tuple[Finding, ...]:
    from daemon.agents import cli_path
    from daemon.isolation.proof import choose_level

    try:
        scratch = config.daemon.data_dir.resolve() / "conversations"
        choice = await choose_level(config.isolation.level, scratch, cli=cli_path())
    except WallError as error:
        return (Finding("isolation", FAIL, str(error), "a Linux kernel with Landlock, 6.12 up"),)
    if choice.proof is None:
        return (Finding("isolation", WARN, "none: agents are not walled in", "use auto"),)
    stronger = "".join(f"; not {why}" for why in choice.passed_over)
    return (Finding("isolation", OK, choice.proof.sentence() + stronger),)


async def _model(config: Config, *, live: bool) -> tuple[Finding, ...]:
    """A request without a message costs nothing and shows whether the key is taken: 401 or 400."""
    try:
        order = await _trial(config, live=live)
        timeout = aiohttp.ClientTimeout(total=LIVE_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.post(order.url, data=order.body, headers=order.headers) as answer,
        ):
            status = answer.status
    except ConfigError as error:
        return (Finding("model", FAIL, str(error), "set agent.api_key"),)
    except KeyRefusedError:
        return (Finding("model", FAIL, "the key is refused", "set agent.api_key"),)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        mend = "check agent.api_url and the network"
        return (Finding("model", FAIL, f"not reached: {type(error).__name__}", mend),)
    return (_answered(status, live=live),)


async def _trial(config: Config, *, live: bool) -> Order:
    """The smallest request, as the gateway would send it."""
    dialect, name = dialect_of(config.agent, SystemClock()), config.agent.model
    messages = [{"role": "user", "content": "Say ok."}] if live else []
    body = json.dumps({"model": name, "max_tokens": 1, "messages": messages}).encode()
    headers = (("anthropic-version", "2023-06-01"), ("content-type", "application/json"))
    judged = judge(body, name, without=dialect.without)
    return await dialect.order(Wish(Endpoint(MESSAGES, ""), headers, judged, 1))


def _answered(status: int, *, live: bool) -> Finding:
    """What the status of the trial says. An empty request is answered 400 where all is well."""
    if status in {401, 403}:
        return Finding("model", FAIL, f"the key is refused ({status})", "set agent.api_key")
    if status == 429 or status >= 500:
        return Finding("model", WARN, f"answered {status}: it is busy or down", "try again later")
    if live and status == 200:
        return Finding("model", OK, "answered a call")
    if live:
        return Finding("model", FAIL, f"a call was answered {status}", "see agent.model")
    if status == 400:
        return Finding("model", OK, "reached, and the key is taken")
    return Finding("model", FAIL, f"no Messages API: answered {status}", "see agent.api_url")


async def _connector(config: Config, name: str, *, live: bool) -> tuple[Finding, ...]:
    table = config.connectors[name]
    around = Surroundings(
        clock=SystemClock(),
        outbox=_NothingSent(),
        data_dir=config.daemon.data_dir.resolve(),
        operators=config.trust.operators,
    )
    try:
        connector: Connector = load(table.kind).build(name, table, around)
        if not isinstance(connector, Diagnoses):
            return (Finding(name, WARN, "this connector has no trial of its own"),)
        return await connector.diagnose(live=live)
    except PostroomError as error:
        return (Finding(name, FAIL, str(error)),)
    except Exception as error:  # noqa: BLE001 - a trial that breaks is a finding of its own
        told = f"its trial broke: {type(error).__name__}: {error}"
        return (Finding(name, FAIL, told, "please report this"),)


class _NothingSent:
    """The port `Outbox` for connectors that only try their credentials."""

    async def count_sent(self, *_arguments: object, **_limits: object) -> int:
        return 0

    async def sent_as(self, _effect: object) -> None:
        return None
