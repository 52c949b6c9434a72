"""The configuration: SURFACE's tables as frozen models, and the only reader of the environment.

Every table and key of the surface that this version carries out is here; any other key is an
error, so nothing is accepted and ignored.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from daemon import credentials, destinations
from daemon.budgets import Limits
from daemon.errors import ConfigError
from daemon.machine import is_loopback, memory_bytes
from daemon.model import Profile, Trust
from daemon.plugin import ConnectorTable, Dollars, load
from daemon.policy import Power, to_be_asked
from daemon.secret import Secret
from daemon.toolnames import OURS, SERVER, full_name, served

DEFAULT_PROMPT = (
    "You are a helpful colleague who answers people in their chat threads and mails. "
    "Be brief, exact and friendly. Write Markdown. Say so when you do not know."
)
SHORTEST_TOKEN = 16  # characters; anybody may try one
_PREFIX = "POSTROOM__"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DaemonTable(_Table):
    data_dir: Path = Path("data")
    api_token: Secret | None = None  # before `listen`, which looks at it
    listen: str = "127.0.0.1:8080"
    drain_seconds: float = Field(default=25, ge=0, le=3600)
    notify: tuple[str, ...] = ()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def own_address(self) -> str:
        """HOST:PORT, by which this machine reaches it."""
        any_address = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host)  # noqa: S104
        return f"{any_address}:{self.port}" if any_address else self.listen

    def token(self) -> str | None:
        """What a client shows; None: nothing. Raises ConfigError where it was not read."""
        return self.api_token.reveal() if self.api_token is not None else None

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str, info: ValidationInfo) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError('write "HOST:PORT", as "127.0.0.1:8080"')
        if not is_loopback(host) and info.data.get("api_token") is None:
            raise ValueError(
                "only a loopback address does without a token: set daemon.api_token as well"
            )
        return value

    @field_validator("notify")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            if address.partition(":")[0] not in {"slack", "mail"} or not address.partition(":")[2]:
                raise ValueError(f'{address!r}: write "slack:CHANNEL" or "mail:ADDRESS"')
        return value


class LedgerTable(_Table):
    url: Literal["sqlite"] = "sqlite"


class AgentTable(_Table):
    model: str = Field(default="claude-sonnet-5", min_length=1)
    system_prompt: str | None = None
    system_prompt_file: Path | None = None
    max_turns: int = Field(default=40, ge=1)
    turn_timeout_seconds: float = Field(default=900, gt=0)
    upstream: Literal["anthropic", "bedrock", "vertex"] = "anthropic"
    api_url: str | None = None  # the upstream's own
    api_key: Secret = Field(default_factory=lambda: Secret(env="ANTHROPIC_API_KEY"))
    region: str = Field(default="", pattern=r"^[a-z0-9-]*$")
    project: str = Field(default="", pattern=r"^[a-z0-9:.-]*$")
    models: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _goes_with_the_upstream(self) -> AgentTable:
        clouds = {"region": self.region, "project": self.project, "models": self.models}
        if self.upstream == "anthropic":
            if given := [name for name, value in clouds.items() if value]:
                raise ValueError(f'{given[0]} is for upstream = "bedrock" or "vertex"')
        elif not self.region:
            raise ValueError(f"upstream = {self.upstream!r} needs a region")
        if self.upstream == "bedrock" and self.model not in self.models:
            wanted = f'models = {{ "{self.model}" = "ID" }}'
            raise ValueError(f"upstream = 'bedrock' needs its id of the model: {wanted}")
        return self

    @model_validator(mode="after")
    def _one_prompt(self) -> AgentTable:
        if self.system_prompt is not None and self.system_prompt_file is not None:
            raise ValueError("give system_prompt or system_prompt_file, not both")
        return self

    @field_validator("api_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("https://", "http://")):
            raise ValueError("write an http:// or https:// address")
        return value.rstrip("/")

    def prompt(self) -> str:
        """The system prompt. Raises ConfigError where its file cannot be read."""
        if self.system_prompt_file is None:
            return self.system_prompt or DEFAULT_PROMPT
        try:
            return self.system_prompt_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"agent.system_prompt_file: {error}") from error


def processes_for_this_machine() -> int:
    """One process for each 768 MiB beyond the first GiB, 1 to 8 (agent-sdk: 250-400 MB at work)."""
    return max(1, min(8, (memory_bytes() - 2**30) // (768 * 2**20)))


class PoolTable(_Table):
    max_processes: int = Field(default_factory=processes_for_this_machine, ge=1)
    spare_processes: int = Field(default=1, ge=0)
    start_parallelism: int = Field(default=2, ge=1)
    idle_seconds: float = Field(default=600, gt=0)
    memory_limit_mb: int = Field(default=1024, ge=128)
    disk_limit_mb: int = Field(default=2048, ge=64)

    @model_validator(mode="after")
    def _spares_fit(self) -> PoolTable:
        if self.spare_processes >= self.max_processes > 1:
            raise ValueError("spare_processes must be fewer than max_processes")
        return self


class IsolationTable(_Table):
    level: Literal["auto", "landlock", "uid", "bwrap", "none"] = "auto"

    @field_validator("level", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if value in {"gvisor", "container"}:
            raise ValueError(
                f"{value!r} comes with a later version; use auto, bwrap, uid or landlock"
            )
        return value


class BudgetsTable(_Table):
    """US dollars; None: no limit. `channels` is by id; a connector's own limit is in its table."""

    per_turn: Dollars | None = None
    per_conversation: Dollars | None = None
    per_sender_daily: Dollars | None = None
    daily: Dollars | None = None
    public_daily: Dollars | None = None
    channels: Mapping[str, Dollars] = Field(default_factory=dict)

    @field_validator("channels")
    @classmethod
    def _ids(cls, value: Mapping[str, Dollars]) -> Mapping[str, Dollars]:
        """In capitals, as Slack writes them: the environment's names have none."""
        for channel in value:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]+", channel):
                raise ValueError(f'{channel!r}: write the id of a channel, as "C0001"')
        return {channel.upper(): dollars for channel, dollars in value.items()}


class RetentionTable(_Table):
    workspaces_days: float = Field(default=30, gt=0)
    records_days: float = Field(default=90, gt=0)


class TrustTable(_Table):
    operators: frozenset[str] = frozenset()

    @field_validator("operators")
    @classmethod
    def _written_whole(cls, value: frozenset[str]) -> frozenset[str]:
        for entry in value:
            if not entry.startswith(("slack:", "mail:")):
                raise ValueError(f'{entry!r}: write "slack:TEAM:USER" or "mail:ADDRESS"')
        return value


_TOOLS = ("Read", "Glob", "Grep", "Write", "Edit", "Bash")


def _tool(name: str) -> str:
    if name not in _TOOLS and served(name) is None:
        raise ValueError(f'{name!r}: write one of {", ".join(_TOOLS)}, or "mcp__SERVER__TOOL"')
    return name


ToolName = Annotated[str, AfterValidator(_tool)]


class ProfileTable(_Table):
    """`ask` names those of `tools` whose calls wait for a person, `egress` what a shell reaches."""

    tools: tuple[ToolName, ...]
    ask: tuple[ToolName, ...] = ()
    egress: tuple[str, ...] = ()

    @field_validator("ask")
    @classmethod
    def _of_the_tools(cls, value: tuple[ToolName, ...], info: ValidationInfo) -> Any:
        strange = [name for name in value if name not in info.data.get("tools", value)]
        if strange:
            raise ValueError(f"{strange[0]!r} is not among the profile's tools")
        return value

    @field_validator("egress")
    @classmethod
    def _for_a_shell(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and "Bash" not in info.data.get("tools", ("Bash",)):
            raise ValueError('only Bash goes out by it: add "Bash" to tools, or take this out')
        return tuple(destinations.entry(text) for text in value)


class ProfilesTable(_Table):
    public: ProfileTable = ProfileTable(tools=())
    member: ProfileTable = ProfileTable(tools=_TOOLS)
    operator: ProfileTable = ProfileTable(tools=_TOOLS)

    def profile(self, trust: Trust, only_read: Iterable[str] = ()) -> Profile:
        """`only_read` are tools of MCP servers that change nothing, by their full names."""
        table: ProfileTable = getattr(self, trust.value)
        reading = frozenset(only_read) & frozenset(table.tools)
        return Profile(trust, table.tools, table.ask, table.egress, reading)


class McpTable(_Table):
    """An MCP server: what starts it, its secrets by the names of its variables, and those of its
    tools that change nothing, each with the reason why that is so.
    """

    command: tuple[str, ...] = Field(min_length=1)
    env: Mapping[str, Secret] = Field(default_factory=dict)
    only_read: Mapping[str, str] = Field(default_factory=dict)

    def secrets(self) -> Mapping[str, str]:
        """By their variables. Raises ConfigError where they were not read."""
        return {name: secret.reveal() for name, secret in self.env.items()}

    @field_validator("env")
    @classmethod
    def _variables(cls, value: Mapping[str, Secret]) -> Mapping[str, Secret]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} is not the name of a variable")
        return value

    @field_validator("only_read")
    @classmethod
    def _with_reasons(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for tool, reason in value.items():
            if not reason.strip():
                raise ValueError(f"{tool}: say why it changes nothing outside")
        return value


class Config(_Table):
    """The whole configuration, checked. `connectors` holds each kind's own table."""

    daemon: DaemonTable = DaemonTable()
    ledger: LedgerTable = LedgerTable()
    agent: AgentTable = Field(default_factory=AgentTable)
    pool: PoolTable = Field(default_factory=PoolTable)
    isolation: IsolationTable = IsolationTable()
    budgets: BudgetsTable = BudgetsTable()
    retention: RetentionTable = RetentionTable()
    trust: TrustTable = TrustTable()
    profiles: ProfilesTable = ProfilesTable()
    mcp: Mapping[str, McpTable] = Field(default_factory=dict)
    connectors: Mapping[str, ConnectorTable] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _notify_has_a_way(self) -> Config:
        tables = self.connectors.values()
        ways = {
            "slack": ("of kind 'slack'", any(table.kind == "slack" for table in tables)),
            "mail": (
                "of kind 'imap' with smtp",
                any(table.kind == "imap" and getattr(table, "smtp", None) for table in tables),
            ),
        }
        for address in self.daemon.notify:
            needed, there = ways[address.partition(":")[0]]
            if not there:
                raise ValueError(f"daemon.notify: {address!r} needs a connector {needed}")
        return self

    @model_validator(mode="after")
    def _walls_where_they_are_needed(self) -> Config:
        if self.isolation.level != "none":
            return self
        if self.answers_strangers():
            raise ValueError("isolation.level: none is refused while strangers are answered")
        for trust in Trust:
            if self.profile(trust).egress:
                raise ValueError(
                    f"profiles.{trust.value}.egress: at isolation.level none nothing keeps a shell "
                    "to a list; take a level with walls, or the list out"
                )
        return self

    @model_validator(mode="after")
    def _rule_of_two(self) -> Config:
        walled = self.isolation.level != "none"
        for trust in Trust:
            profile = self.profile(trust)
            if tools := to_be_asked(profile, walled=walled):
                ask = json.dumps([*profile.ask, *tools])
                out = "these tools or egress" if profile.egress else "these tools"
                raise ValueError(
                    f"profiles.{trust.value}.tools: {', '.join(Power)} would meet in one turn "
                    f"without a person; write ask = {ask} in that table, or take {out} out"
                )
        return self

    @model_validator(mode="after")
    def _each_server_has_a_use(self) -> Config:
        for trust in Trust:
            for tool in self.profile(trust).tools:
                parts = served(tool)
                if parts is not None and parts[0] not in self.mcp:
                    raise ValueError(
                        f"profiles.{trust.value}.tools: {tool}: there is no table mcp.{parts[0]}"
                    )
        for name, table in self.mcp.items():
            if not SERVER.fullmatch(name) or name == OURS:
                raise ValueError(f"mcp.{name}: use small letters, digits and -, and not {OURS!r}")
            tools = self.granted(name)
            if not tools:
                raise ValueError(
                    f"mcp.{name}: no profile has a tool of it; name one among its tools, as "
                    f'"{full_name(name, "TOOL")}"'
                )
            if strange := sorted(table.only_read.keys() - tools):
                raise ValueError(f"mcp.{name}.only_read: no profile has its tool {strange[0]!r}")
        return self

    def profile(self, trust: Trust) -> Profile:
        """What an agent may do for a trust label."""
        reading = [
            full_name(name, tool) for name, table in self.mcp.items() for tool in table.only_read
        ]
        return self.profiles.profile(trust, reading)

    def granted(self, server: str) -> frozenset[str]:
        """The tools of an MCP server that some profile has, by its own names."""
        named = {served(tool) for trust in Trust for tool in self.profile(trust).tools}
        return frozenset(parts[1] for parts in named if parts is not None and parts[0] == server)

    def limits(self) -> Limits:
        """What the configuration bounds."""
        tables = self.connectors.items()
        return Limits(
            per_turn=self.budgets.per_turn,
            per_conversation=self.budgets.per_conversation,
            per_sender_daily=self.budgets.per_sender_daily,
            public_daily=self.budgets.public_daily,
            daily=self.budgets.daily,
            channels=self.budgets.channels,
            connectors={name: table.daily for name, table in tables if table.daily is not None},
        )

    def answers_strangers(self) -> bool:
        """Whether somebody whom nobody knows can have an agent work."""
        return any(
            getattr(table, "answer_public", False) or table.kind == "imap"
            for table in self.connectors.values()
        )


def find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Which file holds: `-c FILE`, else POSTROOM_CONFIG, else ./postroom.toml if it is there."""
    if path is not None:
        return path
    if named := environ.get("POSTROOM_CONFIG"):
        return Path(named)
    return Path("postroom.toml") if Path("postroom.toml").exists() else None


def read(path: Path | None, environ: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration. Raises ConfigError that names table and key.

    With no file, the environment's SLACK_APP_TOKEN and SLACK_BOT_TOKEN alone make a daemon.
    """
    environ = os.environ if environ is None else environ
    found = find(path, environ)
    document = _document(found) if found else _from_environment_alone(environ)
    _override(document, environ)
    return parse(document)


def parse(document: Mapping[str, Any]) -> Config:
    """Check a document. Raises ConfigError with one line a fault."""
    _refuse_later_values(document)
    document = dict(document)
    tables = document.pop("connectors", {})
    if not _items(tables):
        raise ConfigError(
            "connectors: there is none, so nothing to listen to; `postroom init` writes one, or "
            "set SLACK_APP_TOKEN and SLACK_BOT_TOKEN"
        )
    try:
        connectors = {name: _connector(name, table) for name, table in _items(tables)}
        return Config.model_validate({**document, "connectors": connectors})
    except ValidationError as error:
        raise ConfigError(_told(error, ())) from error


def load_secrets(config: Config, environ: MutableMapping[str, str] | None = None) -> list[str]:
    """Read every secret once and take it out of the environment; return them for redaction."""
    environ = os.environ if environ is None else environ
    found: list[str] = []
    for where, secret in secrets_of(config):
        try:
            secret.read(environ)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        _fits(where, secret, config)
        found += [secret.reveal(), *credentials.parts(secret.reveal())]
    for name in named_in_environment(config):
        environ.pop(name, None)
    return found


def _fits(where: str, secret: Secret, config: Config) -> None:
    """Of the secrets only the API token can be tried by anybody, as often as they like; only the
    model's key has a form that we know.
    """
    if where == "daemon.api_token" and len(secret.reveal()) < SHORTEST_TOKEN:
        raise ConfigError(
            f"{where}: give it {SHORTEST_TOKEN} characters at least, as `openssl rand -hex 32` does"
        )
    forms = {"bedrock": credentials.aws_key, "vertex": credentials.service_account}
    if where == "agent.api_key" and (read := forms.get(config.agent.upstream)) is not None:
        try:
            read(secret.reveal())
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from error


def named_in_environment(config: Config) -> frozenset[str]:
    """The variables in which secrets are given."""
    return frozenset(secret.env for _, secret in secrets_of(config) if secret.env)


def reread_secrets(config: Config, environ: MutableMapping[str, str] | None = None) -> list[str]:
    """Read those secrets again that lie in files: the environment's were taken out of it. Raises
    ConfigError: all of them keep what they were.
    """
    environ = os.environ if environ is None else environ
    kept = [(where, secret) for where, secret in secrets_of(config) if secret.env is None]
    for where, secret in kept:
        trial = secret.model_copy()
        try:
            trial.read(environ)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        _fits(where, trial, config)
    for _, secret in kept:
        secret.read(environ)
    texts = [secret.reveal() for _, secret in kept]
    return [*texts, *(part for text in texts for part in credentials.parts(text))]


def secrets_of(value: BaseModel, where: str = "") -> list[tuple[str, Secret]]:
    """Each secret of a configuration with its table and key."""
    found: list[tuple[str, Secret]] = []
    for key in type(value).model_fields:
        child = getattr(value, key)
        for name, item in child.items() if isinstance(child, Mapping) else [("", child)]:
            path = ".".join(part for part in (where, key, name) if part)
            if isinstance(item, Secret):
                found.append((path, item))
            elif isinstance(item, BaseModel):
                found.extend(secrets_of(item, path))
    return found


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; `postroom init` writes one") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _from_environment_alone(environ: Mapping[str, str]) -> dict[str, Any]:
    if "SLACK_APP_TOKEN" in environ and "SLACK_BOT_TOKEN" in environ:
        tokens = {
            "app_token": {"env": "SLACK_APP_TOKEN"},
            "bot_token": {"env": "SLACK_BOT_TOKEN"},
        }
        return {"connectors": {"slack": {"kind": "slack", **tokens}}}
    return {}


def _override(document: dict[str, Any], environ: Mapping[str, str]) -> None:
    """`POSTROOM__TABLE__KEY=value`: TOML where it parses as a value, else a plain string."""
    for name, text in environ.items():
        if not name.startswith(_PREFIX):
            continue
        *tables, key = name.removeprefix(_PREFIX).lower().split("__")
        place = document
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{name}: {table} is not a table")
        try:
            place[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            place[key] = text


def _refuse_later_values(document: Mapping[str, Any]) -> None:
    url = (
        document.get("ledger", {}).get("url") if isinstance(document.get("ledger"), dict) else None
    )
    if isinstance(url, str) and url.startswith("postgres"):
        raise ConfigError('ledger.url: PostgreSQL comes with a later version; write "sqlite"')


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else []


def _connector(name: str, table: Any) -> ConnectorTable:
    where = ("connectors", name)
    if not isinstance(table, Mapping) or not isinstance(table.get("kind"), str):
        raise ConfigError(f'connectors.{name}: give it a kind, as kind = "slack"')
    if not name.replace("-", "_").isidentifier():
        raise ConfigError(f"connectors.{name}: use letters, digits, - and _")
    try:
        return load(table["kind"]).table.model_validate(table)
    except ConfigError as error:
        raise ConfigError(f"connectors.{name}: {error}") from error
    except ValidationError as error:
        raise ConfigError(_told(error, where)) from error


def _told(error: ValidationError, where: tuple[str, ...]) -> str:
    """One line a fault: `table.key: what is wrong`."""
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        path = ".".join(str(part) for part in (*where, *fault["loc"]))
        text = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            text = "there is no such key"
        lines.append(f"{path}: {text}" if path else text)
    return "; ".join(lines)
