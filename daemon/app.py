"""The composition root: configuration -> objects -> services, and how they start and stop.

A message's way from here: `connectors/<kind>` hears it, `intake.accept` registers it,
`dispatcher` picks its conversation, `pool` finds a process, `worker` runs the turn through
`agents/claude`, `endings` writes how it ended, `delivery` carries the answer out. `flow.py` puts
the four in the middle together.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from daemon import approvals, logs
from daemon.agents import cli_path
from daemon.anchoring import Anchoring
from daemon.approvals import SHELL, Approvals, Ruling
from daemon.budgeting import Budgeting
from daemon.budgets import Limits, Raise, Scope
from daemon.checks import connector_health, daemon_health, pool_health
from daemon.clock import JumpingClock, SystemClock, day_of
from daemon.config import Config, reread_secrets
from daemon.delivery import Delivery
from daemon.egress import EgressProxy
from daemon.egress.dialling import Dialler, SystemResolver
from daemon.errors import ConfigError, PostroomError
from daemon.flow import Flow, FlowSettings, build_flow
from daemon.gateway import CallObserved, ModelGateway, dialect_of
from daemon.health import HealthRegistry, LedgerPulse, LoopPulse
from daemon.httpd import Doors, application
from daemon.intake import LedgerIntake
from daemon.isolation import users
from daemon.isolation.proof import Choice, choose_level
from daemon.ledger import open_ledger
from daemon.mcp_servers import McpServer, McpServers
from daemon.metrics import Metrics
from daemon.model import ApprovalId, ConversationId, Health, Profile, Trust, Turn
from daemon.notify import Notifier
from daemon.plugin import Surroundings, load
from daemon.pool import PoolSettings
from daemon.ports import Agents, Connector, HasChannels, KeepsEffects, Ledger
from daemon.recovery import recover
from daemon.reload import compare
from daemon.room import Room, disk_of
from daemon.serving import serving
from daemon.signals import Signals, handled
from daemon.stall import StallWatch
from daemon.supervisor import Serve, Supervisor
from daemon.systemd import Systemd, from_environment
from daemon.timekeeping import Timekeeping
from daemon.tools import all_tools
from daemon.upkeep import Upkeep
from daemon.versions import versions

log = structlog.get_logger()

FLUSH_SECONDS = 3.0  # what the outbox gets after the turns have ended
MCP_SECONDS = 10.0  # that the pool waits for MCP servers to come up
EXIT_STOPPED = 0


@dataclass(frozen=True, slots=True)
class Reread:
    """How SIGHUP reads the configuration anew (raises ConfigError), and hides secrets from logs."""

    config: Callable[[], Config]
    redact: Callable[[Iterable[str]], None]


class Daemon:
    """One running daemon. Built by `open_daemon`; `run` lasts until it is told to stop."""

    def __init__(
        self, config: Config, ledger: Ledger, clock: JumpingClock, systemd: Systemd | None = None
    ) -> None:
        self.config = config
        self.ledger = ledger
        self.clock = clock
        self.versions = versions()
        self.metrics = Metrics()
        self.metrics.build.info({name.replace("-", "_"): v for name, v in self.versions.items()})
        self.metrics.begin(config.connectors)
        self.started_at = clock.monotonic()
        self.level = "unproven"
        self.draining = False
        self._flow: Flow | None = None
        self._flow_ready = asyncio.Event()
        self._chores: set[asyncio.Task[None]] = set()
        self._hidden = 0  # secrets in the log, as of the last look
        self.supervisor = Supervisor(clock, self.metrics)
        self._data_dir = config.daemon.data_dir.resolve()
        self.gateway = self._build_gateway()
        self.egress = self._build_egress()
        self.mcp = self._build_mcp()
        self.connectors = self._build_connectors()
        self.notifier = Notifier(
            ledger=ledger,
            addresses=config.daemon.notify,
            connectors=self.connectors,
            wake_delivery=self._wake_delivery,
        )
        self.budgeting = Budgeting(
            ledger=ledger,
            clock=clock,
            limits=self._limits,
            add=self.gateway.raise_by,
            tell=self.notifier.tell,
            say=self._say,
            ask=self._put_before_operators,
            wake=self._wake,
        )
        self.deliveries = {
            name: Delivery(
                connector=connector,
                ledger=ledger,
                clock=clock,
                metrics=self.metrics,
                tell=self.notifier.tell,
            )
            for name, connector in self.connectors.items()
        }
        self.approvals = Approvals(
            ledger=ledger,
            clock=clock,
            connectors=self.connectors,
            wake=self._wake,
            wake_delivery=self._wake_delivery,
            tell=self.notifier.tell,
            say=self._say,
            raised=self.budgeting.raised,
            wait=approvals.WAIT_SECONDS,
        )
        self.pulse = LedgerPulse(ledger, clock, self.metrics)
        self.room = Room(waiting=lambda: self.pulse.waiting, look=partial(disk_of, self._data_dir))
        self.intake = LedgerIntake(
            ledger=ledger,
            clock=clock,
            metrics=self.metrics,
            connectors=self.connectors,
            approvals=self.approvals,
            wake=self._wake,
            place=self._place,
            stop=self.stop_turn,
            wake_delivery=self._wake_delivery,
            spawn=self.spawn,
            full=self.room.full,
        )
        self.timekeeping = Timekeeping(
            ledger=ledger, clock=clock, tell=self.notifier.tell, moved=self._wake_all
        )
        self.anchoring = Anchoring(
            ledger=ledger, clock=clock, data_dir=self._data_dir, tell=self.notifier.tell
        )
        self.systemd = systemd or Systemd(clock)
        self.loop_pulse = LoopPulse(clock, self.metrics, self.systemd.progress)
        self.stall_watch = StallWatch(lambda: self.loop_pulse.beat_at, clock)
        self.registry = HealthRegistry()
        self._add_checks()

    # --- start and stop, as two lists -----------------------------------------------------------

    def services(self) -> dict[str, Serve]:
        """Everything that runs until cancelled, in the order it starts."""
        services: dict[str, Serve] = {"http": self._serve_http, "loop": self.loop_pulse.run}
        services["stall-watch"] = self.stall_watch.run
        for name in self.connectors:
            services[f"connector:{name}"] = self._listener(name)
            services[f"delivery:{name}"] = self.deliveries[name].run
        services["ledger"] = self.pulse.run
        services["audit"] = self.anchoring.run
        services["gateway"] = self.gateway.run
        if self.egress is not None:
            services["egress"] = self.egress.run
        for name, server in self.mcp.by_name.items():
            services[f"mcp:{name}"] = server.run
        services["pool"] = self._run_pool
        services["dispatcher"] = self._run_dispatcher
        services["upkeep"] = self._run_upkeep
        services["clock"] = self.timekeeping.run
        return services

    async def stop(self, *, seconds: float) -> None:
        """Drain: stop listening, let turns end, flush the outbox. Nothing is lost if cut short."""
        log.info("daemon.draining", seconds=seconds)
        self.draining = True
        self.systemd.stopping()
        self.intake.closed = True
        await self.supervisor.stop(*(f"connector:{name}" for name in self.connectors))
        if self._flow is not None:
            self._flow.dispatcher.paused = True
            drained = await self._flow.pool.drain(seconds)
            log.info("pool.drained", complete=drained)
        await self.supervisor.stop("dispatcher", "upkeep", "pool")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._flush()
        await self.anchoring.anchor()

    async def run(self, signals: Signals) -> int:
        """Until a signal, or until a service escalates; returns the exit status."""
        services = asyncio.create_task(self.supervisor.run(self.services()), name="services")
        stopping = asyncio.create_task(signals.stop.wait(), name="stop")
        try:
            await asyncio.wait({services, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                return self._escalated(services)
            drain = asyncio.create_task(self.stop(seconds=self.config.daemon.drain_seconds))
            at_once = asyncio.create_task(signals.now.wait(), name="now")
            await asyncio.wait({drain, at_once}, return_when=asyncio.FIRST_COMPLETED)
            await _cancel(drain, at_once)
            return EXIT_STOPPED
        finally:
            await _cancel(services, stopping, *self._chores)
            log.info("daemon.stopped")

    async def reload(self, reread: Reread) -> None:
        """SIGHUP: take up what can be, try what is parked again. A fault changes nothing."""
        try:
            reload = compare(self.config, await asyncio.to_thread(reread.config))
            reread.redact(await asyncio.to_thread(reread_secrets, self.config))
            self.gateway.use_key(reload.config.agent.api_key.reveal())
        except ConfigError as error:
            log.error("config.refused", reason=str(error))  # noqa: TRY400 - it names table and key
            return
        self.config = config = reload.config
        logs.set_level(config.daemon.log_level)
        self.notifier.addresses = config.daemon.notify
        self.gateway.limit(config.limits())
        self.supervisor.resume()
        await self.budgeting.release(scope for scope in Scope if scope.daily)
        for key in reload.waiting:
            log.warning("config.waits_for_restart", key=key)
        log.info("config.reloaded", taken=list(reload.taken))

    # --- services -------------------------------------------------------------------------------

    def _listener(self, name: str) -> Serve:
        async def listen() -> None:
            await self.connectors[name].run(
                self.intake, lambda: log.info("connector.ready", connector=name)
            )

        return listen

    async def _serve_http(self) -> None:
        table = self.config.daemon
        async with serving(application(self._doors()), table.host, table.port):
            log.info("http.listening", listen=table.listen)
            await asyncio.Event().wait()

    async def _run_pool(self) -> None:
        """Intake is open already; agents follow: leftovers ended, turns settled, walls proven."""
        if self._flow is None:
            await self.gateway.start()
            if self.egress is not None:
                await self.egress.start()
            await self.mcp.tried(MCP_SECONDS)  # an agent is told of its tools as it starts
            agents = await self._open_agents()
            flow = self._build_flow(agents)
            ended = await agents.end_leftovers()
            recovered = await recover(self.ledger, flow.endings)
            log.info("daemon.recovered", processes_ended=ended, turns=recovered)
            self._flow = flow
            self._flow_ready.set()
            self.systemd.ready()
        await self._flow.pool.run()

    async def _run_dispatcher(self) -> None:
        await self._flow_ready.wait()
        assert self._flow is not None  # noqa: S101 - the event says so
        await self._flow.dispatcher.run()

    async def _run_upkeep(self) -> None:
        await self._flow_ready.wait()
        assert self._flow is not None  # noqa: S101 - the event says so
        await Upkeep(
            ledger=self.ledger,
            agents=self._flow.agents,
            clock=self.clock,
            retention=lambda: self.config.retention,
        ).run()

    async def _open_agents(self) -> Agents:
        """Import the SDK off the loop and prove the walls meanwhile. Raises WallError."""
        importing = asyncio.to_thread(importlib.import_module, "daemon.office")
        proving = choose_level(
            self.config.isolation.level, self._data_dir / "conversations", cli=cli_path()
        )
        try:
            office, choice = await asyncio.gather(importing, proving)
        finally:
            # A collection that walks all that the modules hold stops the loop for 0.1 s (measured).
            gc.freeze()
            gc.enable()
        self.level = choice.level.name
        self.metrics.isolation_level.info({"level": self.level})
        await self._tell_what_is_weaker(choice)
        proof = choice.proof.sentence() if choice.proof else "none"
        log.info("walls.proven", level=self.level, proof=proof)
        opened: Agents = office.open_agents(
            self.config,
            choice.level,
            self.gateway.port,
            all_tools(self.connectors),
            self.mcp,
            egress_port=self.egress.port if self.egress is not None else None,
        )
        return opened

    async def _tell_what_is_weaker(self, choice: Choice) -> None:
        for why in choice.passed_over:
            log.info("walls.passed_over", why=why)
        had_users = await asyncio.to_thread(users.in_use, self._data_dir / "conversations")
        if had_users and not choice.level.own_users:
            why = "; ".join(choice.passed_over) or "it is configured so"
            told = f"conversations had users of their own, and have none now at {choice.level.name}"
            self._tell_daily("isolation", f"{told}: {why}")

    # --- wiring ---------------------------------------------------------------------------------

    def _build_gateway(self) -> ModelGateway:
        return ModelGateway(
            dialect=dialect_of(self.config.agent, self.clock),
            model=self.config.agent.model,
            clock=self.clock,
            limits=self.config.limits(),
            books=self.ledger,
            observe=self._observe_call,
            nearing=lambda news: self.spawn(self.budgeting.tell(news)),
            channel_of=self._channel_of,
            key_changed=self._key_changed,
        )

    def _build_egress(self) -> EgressProxy | None:
        """None where no profile leads outside: then nothing listens."""
        if not any(self._profile(trust).egress for trust in Trust):
            return None
        return EgressProxy(
            turns=self.gateway,
            lists=lambda trust: self._profile(trust).egress,
            dialler=Dialler(SystemResolver()),
            record=self.ledger.audit,
            clock=self.clock,
            metrics=self.metrics,
        )

    def _build_mcp(self) -> McpServers:
        return McpServers(
            McpServer(
                name,
                table.command,
                folder=self._data_dir / "mcp" / name,
                secrets=table.secrets,
                wanted=sorted(self.config.granted(name)),
            )
            for name, table in self.config.mcp.items()
        )

    def _channel_of(self, turn: Turn) -> str:
        connector = self.connectors.get(turn.connector)
        if not isinstance(connector, HasChannels):
            return ""
        return connector.channel_of(turn.messages[0].message.target)

    def _limits(self) -> Limits:
        return self.config.limits()

    async def _say(self, turn: Turn, text: str, key: str, *, once: str = "") -> None:
        if self._flow is not None:
            await self._flow.endings.say(turn, text, key, once=once)

    async def _put_before_operators(self, turn: Turn, more: Raise, text: str, key: str) -> bool:
        """Where nobody is one, nobody could press the buttons."""
        if not self.config.trust.operators:
            return False
        return await self.approvals.offer(turn, more, text, key)

    def _observe_call(self, call: CallObserved) -> None:
        self.metrics.model_requests.labels(call.outcome.value).inc()
        self.metrics.model_cost_usd.inc(call.cost)
        for kind in ("input", "output", "cache_read", "cache_write"):
            self.metrics.model_tokens.labels(kind).inc(getattr(call.usage, kind))

    def _key_changed(self, refused: bool) -> None:
        if refused:
            self._tell_daily("model-key", "the model's key is refused: set another")

    def _tell_daily(self, state: str, text: str) -> None:
        """Of a state of the daemon's own, once a day: it may come to pass again a month later."""
        day = day_of(self.clock.now())
        self.spawn(self.notifier.tell(f"{state}/{day}", text))

    def _build_connectors(self) -> Mapping[str, Connector]:
        around = Surroundings(
            clock=self.clock,
            outbox=self.ledger,
            data_dir=self._data_dir,
            operators=self.config.trust.operators,
            tell=self._tell_people,
        )
        return {
            name: load(table.kind).build(name, table, around)
            for name, table in self.config.connectors.items()
        }

    async def _tell_people(self, key: str, text: str) -> None:
        await self.notifier.tell(key, text)  # which is built later, as it knows the connectors

    def _build_flow(self, agents: Agents) -> Flow:
        """The part that needs the SDK, which is loaded off the loop."""
        config = self.config
        debounces = [getattr(table, "debounce_ms", 0) for table in config.connectors.values()]
        settings = FlowSettings(
            pool=PoolSettings(
                max_processes=config.pool.max_processes,
                spares=min(config.pool.spare_processes, config.pool.max_processes - 1),
                start_parallelism=config.pool.start_parallelism,
                idle_seconds=config.pool.idle_seconds,
                memory_limit=config.pool.memory_limit_mb * 2**20,
                disk_limit=config.pool.disk_limit_mb * 2**20,
            ),
            turn_timeout=config.agent.turn_timeout_seconds,
            max_turns=config.agent.max_turns,
            debounce=max(debounces, default=0) / 1000,
        )
        return build_flow(
            settings,
            ledger=self.ledger,
            agents=agents,
            gateway=self.gateway,
            connectors=self.connectors,
            approvals=self.approvals,
            servers=self.mcp,
            offer=self.budgeting.offer,
            profiles=self._profile,
            wake_delivery=self._wake_delivery,
            tell=self.notifier.tell,
            clock=self.clock,
            metrics=self.metrics,
        )

    def _profile(self, trust: Trust) -> Profile:
        return self.config.profile(trust)

    def _wake(self, conversation: ConversationId) -> None:
        if self._flow is not None:
            self._flow.dispatcher.wake(conversation)

    def _place(self, conversation: ConversationId) -> int | None:
        return self._flow.dispatcher.place(conversation) if self._flow else None

    def _wake_all(self) -> None:
        """Times in the ledger were moved."""
        if self._flow is not None:
            self._flow.dispatcher.read_again()
        for delivery in self.deliveries.values():
            delivery.wake()

    def _wake_delivery(self, connector: str) -> None:
        if connector in self.deliveries:
            self.deliveries[connector].wake()

    def stop_turn(self, conversation: str) -> bool:
        """End a conversation's running turn. False: none runs."""
        return self._flow is not None and self._flow.pool.stop_turn(ConversationId(conversation))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """A short chore that nobody waits for; kept, so that it is not collected half-way."""
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: asyncio.Task[None]) -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("chore.failed", exc_info=error)

    async def _flush(self) -> None:
        for delivery in self.deliveries.values():
            delivery.wake()
        while not all([await delivery.idle() for delivery in self.deliveries.values()]):
            await self.clock.sleep(0.05)

    def _escalated(self, services: asyncio.Task[None]) -> int:
        error = services.exception()
        log.critical("daemon.escalated", exc_info=error)
        return exit_status(error)

    # --- health ---------------------------------------------------------------------------------

    def _add_checks(self) -> None:
        self.registry.add(
            "daemon",
            lambda: daemon_health(self.supervisor, self.loop_pulse, draining=self.draining),
        )
        self.registry.add("ledger", self.pulse.health)
        self.registry.add("disk", self.room.health)
        for name in self.connectors:
            self.registry.add(f"connector:{name}", partial(self._connector_health, name))
        self.registry.add("pool", lambda: pool_health(self.supervisor, self._flow, self.level))
        self.registry.add("model", self.gateway.health)
        if self.egress is not None:
            self.registry.add("egress", self.egress.health)
        for name, server in self.mcp.by_name.items():
            self.registry.add(f"mcp:{name}", server.health)

    def _connector_health(self, name: str) -> Health:
        connector = self.connectors[name]
        return connector_health(self.supervisor, name, connector, self.pulse.counts)

    def about(self) -> dict[str, Any]:
        return {
            "version": self.versions["postroom"],
            "versions": self.versions,
            "uptime_seconds": round(self.clock.monotonic() - self.started_at, 1),
            "isolation": self.level,
            "notices": list(self.notifier.latest),
        }

    def _refresh_metrics(self) -> None:
        hidden = logs.secrets_hidden()
        self.metrics.log_redactions.inc(hidden - self._hidden)
        self._hidden = hidden
        self.metrics.tasks.set(len(asyncio.all_tasks()))
        for name in self.connectors:
            health = self._connector_health(name)
            self.metrics.connector_ready.labels(name).set(1 if health.ready else 0)
            if health.age is not None:
                self.metrics.connector_last_proof_age_seconds.labels(name).set(health.age)

    def _doors(self) -> Doors:
        return Doors(
            registry=self.registry,
            loop=self.loop_pulse,
            metrics=self.metrics,
            ledger=self.ledger,
            about=self.about,
            refresh=self._refresh_metrics,
            stop=self.intake.stop,
            retry=self._retry,
            erase=self._erase,
            decide=self._decide,
            token=self.config.daemon.token,
            budgets=self.gateway.budgets,
            raise_budget=self.budgeting.raise_one,
        )

    async def _retry(self, any_id: str) -> bool:
        conversation = await self.ledger.dead_retry(any_id)
        if conversation is not None:
            self._wake(conversation)
            for delivery in self.deliveries.values():
                delivery.wake()
        return conversation is not None

    async def _decide(self, approval: str, approve: bool) -> Ruling:
        """By whoever may use the command line."""
        return await self.approvals.decide(ApprovalId(approval), SHELL, approve=approve)

    async def _erase(self, who: str) -> int:
        workspaces = await self.ledger.erase(who)
        await self._forget_kept()
        if self._flow is not None:
            await self._flow.pool.end(workspaces)
            for workspace in workspaces:
                try:
                    await asyncio.to_thread(self._flow.agents.erase, workspace)
                except (OSError, RecursionError):  # upkeep tries again, as nobody needs it any more
                    log.exception("workspace.not_erased", workspace=workspace.id)
        return len(workspaces)

    async def _forget_kept(self) -> None:
        """What connectors keep of effects that the ledger does not know any more."""
        keeping = [each for each in self.connectors.values() if isinstance(each, KeepsEffects)]
        for connector in keeping:
            for effect in await connector.kept():
                if await self.ledger.trace(effect) is None:
                    await connector.forget(effect)


async def run(config: Config, reread: Reread, environ: MutableMapping[str, str]) -> int:
    """`postroom run`: open everything, run until told to stop, return the exit status. What systemd
    set in `environ` is taken out of it.

    Raises DataDirBusy, LedgerError, WallError, ConfigError before anything is heard.
    """
    clock = SystemClock()
    systemd = from_environment(clock, environ)
    ledger = await open_ledger(config.daemon.data_dir, clock)
    try:
        daemon = Daemon(config, ledger, clock, systemd)
        with handled(lambda: daemon.spawn(daemon.reload(reread))) as signals:
            log.info("daemon.started", version=daemon.versions["postroom"])
            return await daemon.run(signals)
    finally:
        await ledger.close()


def exit_status(error: BaseException | None) -> int:
    """The exit status of the first error of ours in a (group of) failure: SURFACE, "Exit"."""
    if isinstance(error, BaseExceptionGroup):
        return exit_status(error.exceptions[0])
    return error.exit_code if isinstance(error, PostroomError) else PostroomError.exit_code


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
