"""The nouns that flow through the daemon, as frozen values. Standard library only.

Times are seconds since the Unix epoch (UTC) unless a name says otherwise.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import NewType

Json = object  # what json.loads gives; opaque outside the connector that wrote it
JsonObject = Mapping[str, Json]

MessageId = NewType("MessageId", str)
ConversationId = NewType("ConversationId", str)
TurnId = NewType("TurnId", str)
EffectId = NewType("EffectId", str)
ApprovalId = NewType("ApprovalId", str)

_NAMESPACE = uuid.UUID("5f0c6f0e-8e0b-4c1c-9d39-0d6f0d4b7a11")


class Trust(StrEnum):
    """Where a text came from, never what it says of itself (DESIGN, "Trust")."""

    PUBLIC = "public"
    MEMBER = "member"
    OPERATOR = "operator"

    @property
    def rank(self) -> int:
        return _TRUST_ORDER.index(self)


_TRUST_ORDER = (Trust.PUBLIC, Trust.MEMBER, Trust.OPERATOR)


class Priority(IntEnum):
    """Lower goes first; waiting ages a conversation towards the front."""

    CHAT = 0
    MAIL = 1


# --- inbound -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wrote. `id` is "slack:TEAM:USER" or "mail:address"; `trust` None means not known yet."""

    id: str
    name: str
    trust: Trust | None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a message: shown to the agent by name, type and size in bytes."""

    name: str
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Message:
    """A normalised inbound message.

    `outside_id` and `alternate_id` are the keys against duplicates, unique per connector.
    `addressed` False means: a message only if its conversation is one of ours already.
    `target` is where an answer goes, opaque to all but the connector that made it.
    `names` are outside names of this message (a Message-ID) by which later ones refer to it.
    `raw` is the path of the stored raw form, relative to the data directory, where there is one.
    """

    connector: str
    outside_id: str
    conversation: ConversationId
    sender: Sender
    text: str
    sent_at: float
    priority: Priority
    target: JsonObject
    alternate_id: str | None = None
    addressed: bool = True
    subject: str = ""
    attachments: tuple[Attachment, ...] = ()
    names: tuple[str, ...] = ()
    raw: str | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """Heard and deliberately not answered. Kept by its keys and reason only, without text."""

    connector: str
    outside_id: str
    reason: str
    alternate_id: str | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What could not be made sense of: kept as a dead letter with its raw form."""

    connector: str
    outside_id: str
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Stop:
    """A person asks that a conversation's running turn ends now, and what waits in it with it."""

    connector: str
    outside_id: str
    conversation: ConversationId
    sender: Sender


@dataclass(frozen=True, slots=True)
class Edited:
    """Its author changed a message: `message` is what it says now. `begins` is true where it may
    become one of ours by that (a mention was added), or may not have been heard before.
    """

    message: Message
    begins: bool

    @property
    def connector(self) -> str:
        return self.message.connector

    @property
    def outside_id(self) -> str:
        return self.message.outside_id


@dataclass(frozen=True, slots=True)
class Deleted:
    """Its author took a message back. `target` is where an answer to it would have gone."""

    connector: str
    outside_id: str
    target: JsonObject


@dataclass(frozen=True, slots=True)
class Decision:
    """Somebody pressed a button beside an approval; whether they may is not said by it. `target` is
    where they did, for an answer that only they see.
    """

    connector: str
    outside_id: str
    approval: ApprovalId
    approve: bool
    sender: Sender
    target: JsonObject


Heard = Message | Ignored | Unreadable | Stop
Inbound = Heard | Edited | Deleted | Decision


@dataclass(frozen=True, slots=True)
class Identity:
    """What a connector learnt of a sender. `refused` is why such a sender is not answered."""

    sender: str
    name: str
    trust: Trust
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a mailbox folder has been registered (RFC 3501 2.3.1.1)."""

    connector: str
    folder: str
    uidvalidity: int
    uid: int


class Outcome(StrEnum):
    """What registering an inbound item came to (also the label of messages_received_total)."""

    NEW = "new"  # a message that will be answered
    MERGED = "merged"  # a duplicate that made an ignored row a message
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    LEFT_OUT = "left_out"  # of a lower trust label than its conversation
    UNIDENTIFIED = "unidentified"  # waits until its sender's trust is known
    UNREADABLE = "unreadable"
    REVISED = "revised"  # a message that waits has a new text
    WITHDRAWN = "withdrawn"  # a message that waited is not worked on: its author took it back


@dataclass(frozen=True, slots=True)
class Registered:
    """What `Ledger.register` did; returned only once it is on disk.

    `tell` is true when the author of a left-out message has not been told yet. `taken_up` are
    messages of the same thread that were heard before the mention which makes them ours;
    `called_off` those that waited when somebody said stop. `idle` is true where a message that was
    withdrawn leaves nothing of its conversation under way.
    """

    outcome: Outcome
    message: MessageId | None = None
    conversation: ConversationId | None = None
    tell: bool = False
    taken_up: tuple[Registered, ...] = ()
    idle: bool = False
    called_off: tuple[StoredMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownConversation:
    """An existing conversation found by outside names: who takes part, and at which label."""

    id: ConversationId
    connector: str
    trust: Trust
    participants: frozenset[str]


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as the ledger holds it."""

    id: MessageId
    message: Message
    registered_at: float


# --- agent -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Workspace:
    """What a conversation owns on disk, and its SDK session. Made with a spare, adopted at claim.

    `root` holds `work` (the agent's own files), `config` (CLAUDE_CONFIG_DIR), `home` and `tmp`.
    """

    id: str
    root: Path
    session: str

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """A process that cannot be mistaken for another: pid and start time (field 22 of its stat).

    `user` is the number of a user under which nothing else runs; 0: it has none of its own.
    """

    pid: int
    start_time: int
    user: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Profile:
    """What an agent may do for a trust label. Calls of what is in `ask` wait for a person; hosts
    that its shell may reach are in `egress` (see destinations.py). Tools of MCP servers stand among
    `tools` by their full names (see toolnames.py); those in `only_read` change nothing outside.
    """

    trust: Trust
    tools: tuple[str, ...]
    ask: tuple[str, ...] = ()
    egress: tuple[str, ...] = ()
    only_read: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one attempt of a turn sends. `uuid` is uuid5(turn, attempt)."""

    uuid: str
    text: str


class TurnState(StrEnum):
    """See docs/states.md. `queued` and `running` exclude a second turn of the conversation."""

    QUEUED = "queued"  # claimed; waits for a process, or for its back-off to end
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"  # by a person
    REFUSED = "refused"  # its own budget is spent, or its room on the disk
    LOST = "lost"  # a tool acted outside and its effect cannot be known: never repeated
    DEAD = "dead"  # given up on: see `postroom dead`


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of the agent over the messages that were waiting; frozen when claimed.

    `attempt` counts prompts that may have reached the transcript (0: none yet), `failures` the
    agent's own, `deaths` the daemon's while it ran. `fresh` is true while its session has never
    been used. `resend` is true where the same attempt may be sent again (prompt proven absent).
    """

    id: TurnId
    conversation: ConversationId
    connector: str
    trust: Trust
    workspace: Workspace
    messages: tuple[StoredMessage, ...]
    claimed_at: float
    state: TurnState = TurnState.RUNNING
    attempt: int = 0
    failures: int = 0
    deaths: int = 0
    told: bool = False
    resend: bool = False
    fresh: bool = False
    process: ProcessRef | None = None
    asked_by: str = ""
    """Whose request it goes on with, where its first message is an operator's word on a call."""

    @property
    def sender(self) -> str:
        """Who wrote its first message."""
        return self.messages[0].message.sender.id

    @property
    def booked_on(self) -> str:
        """Whom its cost is booked on: who asked. A stranger's mail is booked on its connector, as
        anybody can have written that address into it.
        """
        by_mail = self.messages[0].message.priority is Priority.MAIL
        borrowed = by_mail and self.trust is Trust.PUBLIC
        return f"connector:{self.connector}" if borrowed else self.asked_by or self.sender

    def answer(self, text: str, key: str, *, final: bool = False, once: str = "") -> Answer:
        """What a connector is asked to compose: the agent's answer, or a sentence of ours. It is
        said once a turn, or once for what the id `once` names.
        """
        return Answer(
            key=f"{once or self.id}/{key}",
            conversation=self.conversation,
            connector=self.connector,
            trust=self.trust,
            messages=tuple(stored.message for stored in self.messages),
            text=text,
            final=final,
            turn=self.id,
        )


# --- approvals ---------------------------------------------------------------------------------


class ApprovalState(StrEnum):
    """See docs/states.md."""

    PENDING = "pending"
    APPROVED = "approved"  # a grant for exactly this call, not used yet
    DENIED = "denied"
    USED = "used"  # the call was let through, once
    EXPIRED = "expired"


# What the daemon itself puts before people: more for a budget. No tool has a blank in its name.
RAISE = "budgets raise"


@dataclass(frozen=True, slots=True)
class Approval:
    """A call of a tool that waits for a person's word, and that word.

    `input` is what the tool was called with, as canonical JSON: the word is for exactly this call.
    `turn` is the one that asked, or asked last; `requesters` wrote its messages. `decider` is empty
    until somebody has decided.
    """

    id: ApprovalId
    conversation: ConversationId
    connector: str
    turn: TurnId
    tool: str
    input: str
    requesters: frozenset[str]
    asked_at: float
    state: ApprovalState = ApprovalState.PENDING
    decider: str = ""
    decider_name: str = ""

    @property
    def digest(self) -> str:
        """Of the tool's name and the input: what two calls must share to be the same."""
        return hashlib.sha256(f"{self.tool}\n{self.input}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A person's word on an approval. `words` is what the agent reads where it comes back as a
    message, because the turn that asked was over.
    """

    approved: bool
    by: Sender
    words: str


def canonical(value: JsonObject) -> str:
    """The one JSON text of a value: keys in order, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=dict)


@dataclass(frozen=True, slots=True)
class ReadyConversation:
    """A conversation with work: `since` is when its oldest waiting message was registered,
    `latest` the newest, `previous` the one before the newest (None: it stands alone),
    `not_before` the end of a queued turn's back-off (0: none),
    `settled` true once it has adopted a workspace.
    """

    id: ConversationId
    priority: Priority
    since: float
    latest: float
    previous: float | None = None
    not_before: float = 0.0
    waiting: int = 1
    trust: Trust = Trust.PUBLIC
    settled: bool = False


# --- outbound ----------------------------------------------------------------------------------


class EffectState(StrEnum):
    STAGED = "staged"  # recorded by a tool call of a turn that has not finished
    PENDING = "pending"
    SENDING = "sending"  # committed before the call that may be seen outside
    SENT = "sent"
    UNCLEAR = "unclear"  # nobody can tell whether it arrived: told to a person, never repeated
    DEAD = "dead"


class EffectKind(StrEnum):
    """How a connector carries an effect out; a connector refuses kinds that are not its own."""

    POST = "post"  # a chat message
    REPLY = "reply"  # a mail sent
    DRAFT = "draft"  # a mail left in Drafts
    LABEL = "label"  # a keyword on a mail
    NOTICE = "notice"  # to the people of `daemon.notify`
    REQUEST = "request"  # an approval, with its buttons
    OUTCOME = "outcome"  # what takes the buttons' place


@dataclass(frozen=True, slots=True)
class NewEffect:
    """An effect before the ledger knows it. `id` is fixed here, as it goes out with the effect.

    `target` and `body` are opaque JSON of the connector; `names` are outside names that the
    conversation will be known by (a Message-ID), stored with it.
    """

    id: EffectId
    connector: str
    conversation: ConversationId
    kind: EffectKind
    target: JsonObject
    body: JsonObject
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect in the outbox. `started_at` is when it first went to `sending` (None: never)."""

    id: EffectId
    connector: str
    conversation: ConversationId
    kind: EffectKind
    target: JsonObject
    body: JsonObject
    state: EffectState
    created_at: float
    turn: TurnId | None = None
    attempts: int = 0
    not_before: float = 0.0
    started_at: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a connector is asked to compose effects from: the turn's text, or a notice of ours.

    `final` is true for the agent's own answer; false for a plain sentence of the daemon to the
    person in the conversation (never sent to an outside correspondent of a mailbox).
    `key` makes the effects' ids: the same answer composed twice has the same ids.
    """

    key: str
    conversation: ConversationId
    connector: str
    trust: Trust
    messages: tuple[Message, ...]
    text: str
    final: bool = True
    turn: TurnId | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """It arrived; `ref` is what the outside calls it (a Slack ts, a Message-ID)."""

    ref: str


@dataclass(frozen=True, slots=True)
class NotNow:
    """Nothing was sent; try again after so many seconds."""

    reason: str
    retry_after: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing was sent, and trying again cannot help."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """It may have arrived: look before anything is repeated."""

    reason: str


Receipt = Sent | NotNow | Rejected | Unclear


class Sighting(StrEnum):
    """What looking for an effect outside showed."""

    ABSENT = "absent"  # proven: it may be sent again
    UNKNOWN = "unknown"  # absence proves nothing here (SMTP), or the look-up says nothing


# --- costs -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call or of several."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
        )


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One request to the model, as the gateway metered it. `cost` is US dollars; `channel` is the
    one that its conversation lies in ("": none).
    """

    conversation: ConversationId
    turn: TurnId
    booked_on: str
    model: str
    usage: Usage
    cost: float
    status: int
    started_at: float
    seconds: float
    connector: str = ""
    channel: str = ""


# --- audit -------------------------------------------------------------------------------------

# Who did something, where it was no person.
AGENT, DAEMON, COMMAND_LINE = "agent", "daemon", "command line"


@dataclass(frozen=True, slots=True)
class Audited:
    """One thing for the audit: what was asked, decided or done, as `noun.verb_past`.

    `by` is a sender's id, or AGENT, DAEMON, COMMAND_LINE; `about` is whom or what it was done to,
    where that is not the conversation. They and `conversation` are kept as aliases. `facts` are
    ids, states and numbers of ours, kept as they are: never what somebody wrote. That goes into
    `texts`, of which a digest is kept, salted by one of the former.
    """

    what: str
    by: str
    conversation: str = ""
    facts: JsonObject = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    about: str = ""


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The newest record of the audit at some time: its number and its hash (SHA-256, hex)."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


@dataclass(frozen=True, slots=True)
class AuditFindings:
    """What a walk over the audit found: how many records, the newest, and a sentence a fault."""

    records: int
    head: AuditHead | None
    faults: tuple[str, ...]


# --- health ------------------------------------------------------------------------------------


class HealthState(StrEnum):
    PASS = "pass"  # noqa: S105 - the word of the health draft
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Health:
    """One component's state as it is now. `ready` decides `/readyz`; `numbers` are for people."""

    state: HealthState
    detail: str = ""
    ready: bool = True
    age: float | None = None
    numbers: Mapping[str, float | int | str | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """What `postroom doctor` found of one part: pass, warn or fail, and how to mend it."""

    part: str
    state: HealthState
    detail: str
    mend: str = ""


# --- ids ---------------------------------------------------------------------------------------


def new_message_id() -> MessageId:
    return MessageId(f"msg-{uuid.uuid4().hex}")


def new_turn_id() -> TurnId:
    """A UUID, so that a recreated ledger never repeats one (reference: ledger, section 2)."""
    return TurnId(f"turn-{uuid.uuid4().hex}")


def new_approval_id() -> ApprovalId:
    return ApprovalId(f"apr-{uuid.uuid4().hex}")


def offer_id(key: str) -> ApprovalId:
    """The id of what the daemon itself asks; the same for the same key."""
    return ApprovalId(f"apr-{uuid.uuid5(_NAMESPACE, key).hex}")


def prompt_uuid(turn: TurnId, attempt: int) -> str:
    """The uuid of a turn's user message: the CLI never answers the same one twice (measured)."""
    return str(uuid.uuid5(_NAMESPACE, f"{turn}/{attempt}"))


def effect_id(key: str, position: int) -> EffectId:
    """The id of an answer's n-th effect; the same for the same answer, however often composed."""
    return EffectId(f"eff-{uuid.uuid5(_NAMESPACE, f'{key}#{position}').hex}")
