"""The seams. The flow knows only these; connectors, ledger, agents and gateway implement them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from daemon.budgets import Budget, Raise, Scope
from daemon.model import (
    Answer,
    Approval,
    ApprovalId,
    Audited,
    AuditHead,
    ConversationId,
    Cursor,
    Deleted,
    Edited,
    Effect,
    EffectId,
    EffectKind,
    Finding,
    Health,
    Heard,
    Identity,
    Inbound,
    JsonObject,
    KnownConversation,
    MessageId,
    ModelCall,
    NewEffect,
    Priority,
    ProcessRef,
    Profile,
    Prompt,
    ReadyConversation,
    Receipt,
    Registered,
    Sent,
    Sighting,
    StoredMessage,
    Turn,
    TurnId,
    TurnState,
    Usage,
    Verdict,
    Workspace,
)

# --- connectors ----------------------------------------------------------------------------------


class Intake(Protocol):
    """What a connector tells the daemon. Each call returns once its news is on disk."""

    async def accept(self, item: Inbound, cursor: Cursor | None = None) -> Registered:
        """Register an item, and move the cursor, in one transaction; then the outside may be
        acknowledged. Duplicates are fine. Raises LedgerError: acknowledge nothing.
        """
        ...

    async def identify(self, connector: str, identity: Identity) -> None:
        """Say who a sender is: their messages that waited for it go on."""
        ...

    async def unidentified(self, connector: str) -> tuple[str, ...]:
        """Senders whose trust is not known yet and whose messages wait for it."""
        ...

    async def cursor(self, connector: str, folder: str) -> Cursor | None: ...

    async def set_cursor(self, cursor: Cursor) -> None:
        """A first start, or a new UIDVALIDITY; in every other case `accept` moves it."""
        ...

    async def find_conversation(
        self, connector: str, names: Sequence[str]
    ) -> KnownConversation | None:
        """The conversation that the first known one of these outside names belongs to."""
        ...

    async def knows(self, connector: str, outside_ids: Sequence[str]) -> frozenset[str]:
        """Which of these outside (or alternate) ids are registered."""
        ...

    def full(self) -> str:
        """Why what can wait outside had better wait there for now, in words for operators. Empty:
        there is room. Nothing is refused either way.
        """
        ...

    async def active_conversations(
        self, connector: str, since: float, limit: int
    ) -> tuple[ConversationId, ...]:
        """Conversations of ours in which something was said since then, the latest first."""
        ...


class Outbox(Protocol):
    """What a connector may ask about what has been sent."""

    async def count_sent(
        self,
        connector: str,
        kind: EffectKind,
        since: float,
        *,
        conversation: ConversationId | None = None,
        sender: str | None = None,
    ) -> int:
        """Effects of a kind created since then (dead ones excepted), of a conversation or of all
        conversations in which `sender` wrote the first message.
        """
        ...

    async def sent_as(self, effect: EffectId) -> str | None:
        """What the outside calls an effect that arrived (a Slack ts); None: it has not."""
        ...


class Connector(Protocol):
    """One configured instance of a channel: outside events in, effects out."""

    name: str
    kind: str
    priority: Priority

    async def run(self, intake: Intake, ready: Callable[[], None]) -> None:
        """Until cancelled. Calls `ready` when first proven alive. Raises Unavailable (waited out),
        AuthenticationFailed (parked until a reload), anything else counts as a failure.
        """
        ...

    async def compose(self, answer: Answer) -> tuple[NewEffect, ...]:
        """The effects by which an answer, or a notice of ours, leaves. No network I/O. May be
        empty: a mailbox never sends the daemon's notices to its correspondents.
        """
        ...

    async def deliver(self, effect: Effect, sending: Callable[[], Awaitable[None]]) -> Receipt:
        """Carry one effect out. `await sending()` right before the call that may be seen outside
        (for SMTP after RCPT and before DATA): it commits the state `sending`.
        """
        ...

    async def find(self, effect: Effect) -> Sent | Sighting:
        """Look outside for an effect that was left in `sending`. Raises Unavailable."""
        ...

    def health(self) -> Health:
        """As of now, from ages and not from flags; `ready` is the surface's rule."""
        ...


@runtime_checkable
class ShowsActivity(Protocol):
    """A connector that can show that somebody is at work. Best effort, never raises."""

    async def show_activity(self, target: JsonObject, text: str) -> None:
        """`text` empty: nobody is at work any more."""
        ...


@runtime_checkable
class Notifies(Protocol):
    """A connector that can write to the people of `daemon.notify`."""

    scheme: str  # "slack" or "mail": what stands before the colon

    def compose_notice(self, key: str, address: str, text: str) -> NewEffect: ...


@runtime_checkable
class HasChannels(Protocol):
    """A connector whose conversations lie in channels, which may have budgets of their own."""

    def channel_of(self, target: JsonObject) -> str:
        """The id of the channel that a message's `target` leads to."""
        ...


@runtime_checkable
class Describes(Protocol):
    """A connector whose effects a person may have to look for outside."""

    def describe(self, effect: Effect) -> str:
        """What it is, as it is seen there: "the answer `Re: Hours` to `bob@example.com`". Empty:
        nothing that its id and conversation do not say. For people alone, never for the log.
        """
        ...


@runtime_checkable
class HasButtons(Protocol):
    """A connector in whose conversations people approve or deny by a button."""

    def compose_request(self, approval: Approval, text: str, shown: str) -> NewEffect:
        """The post that asks: `text` is a sentence of ours, `shown` the call's input."""
        ...

    def compose_outcome(self, approval: Approval, text: str, shown: str) -> NewEffect:
        """What takes the buttons' place, once and for all."""
        ...

    async def whisper(self, target: JsonObject, text: str) -> None:
        """To the one who pressed (`target` is a Decision's), alone. Best effort, never raises."""
        ...


@runtime_checkable
class KeepsEffects(Protocol):
    """A connector that keeps something of what it carried out on the disk, beside the ledger."""

    async def kept(self) -> tuple[EffectId, ...]:
        """Of which effects. Raises OSError."""
        ...

    async def forget(self, effect: EffectId) -> None:
        """Remove what is kept of an effect that is known to nobody any more. Raises OSError."""
        ...


class Tell(Protocol):
    """How the people of `daemon.notify` are told."""

    async def __call__(self, key: str, text: str, aside: str = "") -> None:
        """Once for a `key`. The log and `/healthz` have the `text`, people the `aside` as well:
        what somebody wrote may stand only there. Never raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool of ours that acts on the outside: calling it records an effect, no more.

    `schema` is JSON Schema of its input. `answer` is what the model reads after a call.
    """

    name: str
    description: str
    schema: JsonObject
    answer: str


@runtime_checkable
class OffersTools(Protocol):
    """A connector with tools of its own."""

    tools: tuple[ToolSpec, ...]

    def compose_tool(
        self, tool: str, arguments: JsonObject, key: str, turn: Turn
    ) -> NewEffect | str:
        """The effect of a call, or a sentence that tells the model why it was refused."""
        ...


@runtime_checkable
class Diagnoses(Protocol):
    """A connector that can try its own credentials and servers, for `postroom doctor`."""

    async def diagnose(self, *, live: bool) -> tuple[Finding, ...]:
        """Never raises; `live` allows what leaves a trace outside (a mail to oneself)."""
        ...


# --- agents --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """The CLI has taken the prompt up (its `init` named the uuid)."""


@dataclass(frozen=True, slots=True)
class ModelAsked:
    """The results of all its tools are there: the CLI asks the model again."""


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """The model began to answer a request; it may think for long before it writes."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer as it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolUsed:
    """The agent began to use a tool."""

    name: str
    tool_use_id: str


@dataclass(frozen=True, slots=True)
class ModelRetry:
    """The CLI waits before it asks the model again; status None means no answer at all."""

    status: int | None


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The CLI's result for our uuid. `text` is the final text.

    `error` is None for an answer, else one of: "api" (status says which), "max_turns",
    "interrupted", "unusable" (the request was refused as unusable), "other".
    """

    text: str
    error: str | None = None
    status: int | None = None
    detail: str = ""
    usage: Usage = field(default_factory=Usage)
    sdk_cost: float | None = None


@dataclass(frozen=True, slots=True)
class AlreadySeen:
    """`idle` without a start: the CLI takes this uuid for done. Read the transcript."""


AgentEvent = (
    TurnStarted
    | ModelAsked
    | ModelAnswered
    | TextDelta
    | ToolUsed
    | ModelRetry
    | TurnEnded
    | AlreadySeen
)


@dataclass(frozen=True, slots=True)
class PromptFate:
    """What a transcript says of a prompt's uuid.

    `answer` is the text to harvest when it was answered (never an API error, never the CLI's own
    "No response requested."). `tools_done` are tool_use_ids that have a result, behind the prompt
    or before it (of attempts that were given up): the model believes them done. `tools_open` are
    names of tools behind it that were called and have none.
    """

    present: bool
    answer: str | None = None
    tools_done: frozenset[str] = frozenset()
    tools_open: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What the model reads after a call; `failed`: as an error."""

    text: str
    failed: bool = False


class ToolServers(Protocol):
    """The MCP servers of the configuration, by their names there."""

    def specs(self, server: str) -> Mapping[str, ToolSpec]:
        """Its tools as it last listed them, by its own names; none before it has."""
        ...

    async def call(self, server: str, tool: str, arguments: JsonObject) -> ToolAnswer:
        """Have a tool used. Never raises: what goes wrong is an answer, too."""
        ...


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether a call may go on now; `reason` is what the model reads where it may not. `waits`:
    nobody has decided yet.
    """

    granted: bool
    reason: str = ""
    waits: bool = False


class ToolGate(Protocol):
    """What the daemon does when an agent calls a tool of ours, or one that must be asked for."""

    async def call(self, tool: str, arguments: JsonObject, tool_use_id: str) -> str:
        """Stage the effect durably and return what the model reads; refusals are texts too."""
        ...

    async def use(
        self, server: str, tool: str, arguments: JsonObject, tool_use_id: str
    ) -> ToolAnswer:
        """Have an MCP server do it, once that is recorded."""
        ...

    async def ask(self, tool: str, arguments: JsonObject) -> Permission:
        """Before each call of a tool that the profile's `ask` names; may last for a minute."""
        ...


class Agent(Protocol):
    """One live agent process and its session. One task owns it."""

    process: ProcessRef

    def turn(self, prompt: Prompt) -> AsyncIterator[AgentEvent]:
        """Send a prompt and read until TurnEnded or AlreadySeen. Raises AgentDied."""
        ...

    async def interrupt(self) -> None:
        """End the running turn: its iterator then yields TurnEnded(error="interrupted")."""
        ...

    async def close(self) -> None:
        """Interrupt if busy, disconnect, and return when the whole process group is gone. Never
        raises; safe to call twice; runs to its end even when its caller is cancelled.
        """
        ...


class Agents(Protocol):
    """Where agents come from (embedded: processes of the claude CLI within their walls)."""

    def new_workspace(self) -> Workspace:
        """Directories and a session id for a conversation to be. No process yet."""
        ...

    async def start(
        self, workspace: Workspace, profile: Profile, token: str, gate: ToolGate
    ) -> Agent:
        """Start a process in a workspace, resuming its session where a transcript exists.
        `token` is its capability for the gateway. Raises StartFailed.
        """
        ...

    def fate(self, workspace: Workspace, uuid: str) -> PromptFate:
        """What the session's transcript says of a prompt. Blocking file I/O, links not followed."""
        ...

    def has_transcript(self, workspace: Workspace) -> bool: ...

    def sync(self, workspace: Workspace) -> None:
        """Put the transcript on disk (fsync); before a turn is finished. Blocking."""
        ...

    def processes(self) -> Mapping[str, ProcessRef]:
        """Recorded processes that are alive, by workspace id (of former daemons too)."""
        ...

    async def end_leftovers(self) -> int:
        """End every recorded process that no live Agent owns; return how many there were."""
        ...

    def memory_bytes(self, process: ProcessRef) -> int:
        """Resident memory of a process and all its descendants; 0 when it is gone."""
        ...

    def disk_bytes(self, workspace: Workspace) -> int | None:
        """What all of a workspace takes up on the disk; None: its agent hides some of it. Blocking.
        Raises OSError.
        """
        ...

    def erase(self, workspace: Workspace) -> None: ...

    def on_disk(self) -> Mapping[Workspace, float]:
        """Every workspace that is there, by whomever it was made, and when. Their sessions are not
        known ("" stands for each). Blocking.
        """
        ...


# --- gateway -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the gateway lets a turn ask the model no more: this budget is spent."""

    budget: Budget

    @property
    def scope(self) -> Scope:
        return self.budget.scope


class Gateway(Protocol):
    """The only way to the model: holds the key, meters, caps."""

    @property
    def port(self) -> int: ...

    def issue(self) -> str:
        """A new capability token, good for nothing until it is opened for a turn."""
        ...

    def open_turn(self, token: str, turn: Turn) -> None:
        """From now on calls with this token belong to this turn."""
        ...

    async def close_turn(self, token: str) -> Refusal | None:
        """No further calls until the next turn; all metered calls of it are in the ledger when
        this returns. Tells whether, and why, the turn was refused the model.
        """
        ...

    def halt(self, token: str) -> None:
        """Cut off what its turn asks the model, and let it ask no more: a person said stop."""
        ...

    def revoke(self, token: str) -> None: ...

    async def refusal(self, turn: Turn) -> Refusal | None:
        """Why a turn that is about to start may not ask the model. Raises LedgerError."""
        ...

    def rests(self) -> float:
        """Seconds for which the model has asked to be left alone (429, 529); 0: it may be asked."""
        ...


# --- ledger --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClaimLimits:
    """How much one turn takes: DESIGN section 3, point 3."""

    messages: int = 20
    bytes: int = 60_000


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ends: one transaction writes it all.

    `keep_staged` says whether the turn's staged effects become pending or are deleted.
    """

    state: TurnState
    text: str = ""
    reason: str = ""
    effects: tuple[NewEffect, ...] = ()
    keep_staged: bool = False


@dataclass(frozen=True, slots=True)
class HeldUp:
    """Effects of one connector that were tried and are not settled: how many, for how many seconds
    the oldest, and why it was put back (empty: it is being looked for).
    """

    number: int
    age: float
    reason: str


@dataclass(frozen=True, slots=True)
class Counts:
    """The ledger at a glance, for health and metrics. Ages are in seconds; `held_up` is by
    connector.
    """

    waiting: int
    oldest_age: float
    running: int
    queued: int
    outbox: Mapping[str, int]
    held_up: Mapping[str, HeldUp]
    dead_letters: int
    cost_today: float
    approvals: int  # that are pending


class Ledger(Protocol):
    """The durable record. Every method returns after its commit (synchronous=FULL).

    Every write of a turn or an effect carries this owner's epoch; one that is not the newest
    raises OwnershipLost. Any failure to commit raises LedgerError and nothing is durable.
    """

    @property
    def epoch(self) -> int: ...

    # intake
    async def register(self, item: Heard, cursor: Cursor | None = None) -> Registered: ...
    async def revise(self, item: Edited) -> Registered: ...
    async def withdraw(self, item: Deleted) -> Registered: ...
    async def identify(self, connector: str, identity: Identity) -> tuple[Registered, ...]: ...
    async def unidentified(self, connector: str) -> tuple[str, ...]: ...
    async def cursor(self, connector: str, folder: str) -> Cursor | None: ...
    async def set_cursor(self, cursor: Cursor) -> None: ...
    async def find_conversation(
        self, connector: str, names: Sequence[str]
    ) -> KnownConversation | None: ...
    async def knows(self, connector: str, outside_ids: Sequence[str]) -> frozenset[str]: ...
    async def active_conversations(
        self, connector: str, since: float, limit: int
    ) -> tuple[ConversationId, ...]: ...
    async def message(self, message: MessageId) -> StoredMessage | None: ...

    # dispatch and turns
    async def ready(self, conversation: ConversationId) -> ReadyConversation | None:
        """The conversation's work, or None: nothing waits, or a turn of it runs."""
        ...

    async def ready_among(
        self, conversations: Sequence[ConversationId]
    ) -> tuple[ReadyConversation, ...]:
        """Those of them that have work, in one look."""
        ...

    async def all_ready(self) -> tuple[ReadyConversation, ...]: ...
    async def workspace(self, conversation: ConversationId) -> Workspace | None:
        """The workspace that a conversation has adopted, if it has one."""
        ...

    async def claim(
        self, conversation: ConversationId, spare: Workspace | None, limits: ClaimLimits
    ) -> Turn | None:
        """The conversation's queued turn if its back-off is over, else a new turn over what
        waits, oldest first. A conversation without a workspace adopts `spare` (None: it is known
        to have one, and LedgerError is raised if it has not). State `running`.
        None: nothing to do, or a turn of it runs already.
        """
        ...

    async def said(self, conversation: ConversationId, before: TurnId) -> tuple[str, ...]:
        """The messages ("Name (id, label): text") and answers ("You: text") of the conversation's
        earlier turns, oldest first: for a session whose transcript is lost. At most the last 50.
        """
        ...

    async def begin_attempt(self, turn: TurnId, attempt: int, process: ProcessRef) -> None:
        """Committed before the prompt of this attempt is sent."""
        ...

    async def note_tools(self, turn: TurnId, used: Sequence[tuple[float, str]]) -> None:
        """For the trace: when the agent began to use which of the CLI's own tools."""
        ...

    async def stage(
        self, turn: TurnId, attempt: int, tool_use_id: str, effect: NewEffect
    ) -> None: ...
    async def end_turn(self, turn: TurnId, ending: Ending) -> bool:
        """End a running or queued turn with its effects. False: it was not running any more."""
        ...

    async def requeue(
        self,
        turn: TurnId,
        *,
        not_before: float,
        resend: bool,
        failed: bool = False,
        told: bool = False,
        tools_done: frozenset[str] | None = None,
        effects: tuple[NewEffect, ...] = (),
        reason: str = "",
    ) -> None:
        """Put a running turn back. `resend`: the next prompt may carry the same uuid (it is
        proven absent). `failed` counts a failure of the agent, `told` remembers that the person
        was told; `effects` tell them. Staged effects whose tool_use_id is in `tools_done` move to
        the next attempt, the others are deleted (None: leave them all).
        """
        ...

    async def call_off(self, conversation: ConversationId) -> tuple[StoredMessage, ...]:
        """End what has not begun of a conversation, its queued turn and what waits, as a stopped
        turn; return its messages. Registering a `Stop` does the same in its transaction.
        """
        ...

    async def release(self, reason: str) -> tuple[ConversationId, ...]:
        """Let turns go at once that were put back for this reason; return their conversations."""
        ...

    async def turn(self, turn: TurnId) -> Turn | None: ...

    async def interrupted(self) -> tuple[Turn, ...]:
        """Turns left `running` by an earlier epoch, with `deaths` counted up by this call."""
        ...

    # approvals
    async def request(self, asked: Approval, effects: Sequence[NewEffect]) -> Approval | None:
        """A running turn calls a tool that needs a person's word. Returns what holds for exactly
        this call of its conversation: a grant (`used` from now on), a denial that this turn knows
        of, an approval that is pending (this turn's from now on), else `asked`, with the effects
        that show it. None: too many of the conversation are pending.
        """
        ...

    async def take(self, approval: ApprovalId, turn: TurnId) -> Approval | None:
        """What was decided, for the turn that waits for it: a grant is `used` from now on, and a
        denial is heard. As it is where it is still pending; None: there is nothing to take (any
        more).
        """
        ...

    async def decide(
        self, approval: ApprovalId, verdict: Verdict, effects: Sequence[NewEffect]
    ) -> Approval | None:
        """A person's word on a pending approval, with the effects that show it. None: it was not
        pending. What its turn does not take comes back as a message of the conversation: registered
        here where that turn is over, else with that turn's end.
        """
        ...

    async def offer(self, offered: Approval, effects: Sequence[NewEffect]) -> None:
        """The daemon itself asks for a budget's `RAISE`, with the effects that show it; once for
        its id. `decide` raises the budget in its own transaction then, and ends every other offer
        of the same raise.
        """
        ...

    async def approval(self, approval: ApprovalId) -> Approval | None: ...
    async def approvals(self) -> tuple[JsonObject, ...]:
        """Those that are pending, the oldest first, each with its whole input; no raises."""
        ...

    # outbox
    async def add_effects(self, effects: Sequence[NewEffect]) -> None:
        """Effects that no turn wrote (notices). An id that is there already is left alone."""
        ...

    async def due_effects(self, connector: str, now: float, limit: int) -> tuple[Effect, ...]:
        """At most one per conversation: its oldest pending effect, if its time has come and none
        of the conversation is in `sending`.
        """
        ...

    async def next_due(self, connector: str) -> float | None:
        """When the earliest pending effect that waits for its time is due, or None."""
        ...

    async def left_sending(self, connector: str) -> tuple[Effect, ...]: ...
    async def mark_sending(self, effect: EffectId) -> None: ...
    async def mark_sent(self, effect: EffectId, ref: str) -> None: ...
    async def mark_pending(self, effect: EffectId, not_before: float, reason: str) -> None: ...
    async def mark_unclear(self, effect: EffectId, reason: str) -> None: ...
    async def mark_dead(self, effect: EffectId, reason: str) -> None: ...
    async def sent_as(self, effect: EffectId) -> str | None: ...
    async def count_sent(
        self,
        connector: str,
        kind: EffectKind,
        since: float,
        *,
        conversation: ConversationId | None = None,
        sender: str | None = None,
    ) -> int: ...

    # costs
    async def book(self, call: ModelCall) -> None: ...
    async def spent(self, budgets: Sequence[Budget], since: float) -> tuple[float, ...]:
        """US dollars booked on each of them: on daily ones since this time (the start of a UTC
        day), on the others ever.
        """
        ...

    async def raise_budget(self, more: Raise) -> None: ...
    async def raises(self) -> tuple[Raise, ...]:
        """What operators added to budgets and what still counts, oldest first."""
        ...

    # audit: docs/audit.md has what is recorded when
    async def audit(self, entry: Audited) -> None:
        """One more record, on disk when this returns: for what the ledger's own operations do not
        record themselves.
        """
        ...

    async def audit_head(self) -> AuditHead | None:
        """The newest record; None before the first."""
        ...

    async def audit_holds(self, anchor: AuditHead) -> bool:
        """Whether the record that was the newest once is there as it was, or went by age."""
        ...

    # what people ask: docs/trace.md has the shapes
    async def probe(self) -> None:
        """One real commit: proves that the ledger can still write."""
        ...

    async def counts(self) -> Counts: ...
    async def trace(self, any_id: str) -> JsonObject | None: ...
    async def dead(self) -> tuple[JsonObject, ...]: ...
    async def dead_retry(self, any_id: str) -> ConversationId | None: ...
    async def dead_discard(self, any_id: str) -> bool: ...
    async def conversations(self, limit: int) -> tuple[JsonObject, ...]: ...
    async def conversation(self, conversation: ConversationId) -> JsonObject | None: ...

    # upkeep, and the end
    async def move_waiting(self, seconds: float) -> None:
        """The clock has jumped: move every time that something waits or ages by along with it, so
        that nothing is due, or given up on, sooner or later than it was.
        """
        ...

    async def erase(self, who: str) -> tuple[Workspace, ...]:
        """Remove what a conversation or a person (sender id) left, keys against duplicates
        excepted; return the workspaces to remove from disk.
        """
        ...

    async def retain(
        self, *, records_before: float, workspaces_before: float, keys_before: float
    ) -> tuple[Workspace, ...]: ...
    async def adopted(self) -> frozenset[str]:
        """Ids of the workspaces that a conversation, or a turn that is not over, still needs."""
        ...

    async def backup(self, path: Path) -> None: ...
    async def close(self) -> None: ...
