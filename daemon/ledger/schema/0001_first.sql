-- Times are seconds since the Unix epoch; JSON and ids are text. States: docs/states.md.

-- One row: whose writes count. A daemon that opens the ledger takes the next epoch.
create table owner (
  one integer primary key check (one = 1),
  epoch integer not null,
  probed_at real not null
) strict;
insert into owner values (1, 0, 0);

-- What was heard. `id` is the order of registration; AUTOINCREMENT, as a plain key would start at
-- one again after retention emptied the table (measured).
create table inbox (
  id integer primary key autoincrement,
  message text not null unique,
  connector text not null,
  outside_id text not null,
  alternate_id text,
  state text not null check (state in ('waiting', 'unidentified', 'claimed', 'ignored', 'left_out',
    'unreadable', 'stripped')),
  addressed integer not null,
  deliveries integer not null default 1,
  registered_at real not null,
  conversation text,
  turn text,
  priority integer,
  sender text,
  sender_name text,
  sender_trust text,
  sent_at real,
  reason text not null default '',
  discarded_at real,
  target text,
  subject text,
  body text,
  attachments text,
  names text,
  raw_path text,
  raw blob
) strict;
create unique index inbox_outside on inbox (connector, outside_id);
create unique index inbox_alternate on inbox (connector, alternate_id)
  where alternate_id is not null;
create index inbox_open on inbox (conversation, id, state, registered_at)
  where state = 'waiting' or state = 'unidentified';
create index inbox_conversation on inbox (conversation, id) where conversation is not null;
create index inbox_turn on inbox (turn, id) where turn is not null;
create index inbox_unreadable on inbox (id) where state = 'unreadable' and discarded_at is null;

-- What a conversation owns on disk. `root` is relative to the data directory where it lies in it,
-- so that a restored backup runs anywhere.
create table workspace (
  id text primary key,
  root text not null,
  session text not null,
  adopted_at real not null
) strict, without rowid;

create table conversation (
  id text primary key,
  connector text not null,
  priority integer not null,
  trust text not null,
  opened_by text not null,
  workspace text unique,
  created_at real not null,
  last_at real not null
) strict;

-- Outside names (a Message-ID) by which a conversation is found again.
create table name (
  connector text not null,
  name text not null,
  conversation text not null,
  primary key (connector, name)
) strict, without rowid;
create index name_conversation on name (conversation);

create table turn (
  seq integer primary key autoincrement,
  id text not null unique,
  conversation text not null,
  connector text not null,
  trust text not null,
  state text not null check (state in ('queued', 'running', 'done', 'stopped', 'refused', 'lost',
    'dead')),
  epoch integer not null,
  workspace text not null,
  attempt integer not null default 0,
  failures integer not null default 0,
  deaths integer not null default 0,
  told integer not null default 0,
  resend integer not null default 0,
  fresh integer not null default 0,
  pid integer,
  pid_started integer,
  claimed_at real not null,
  not_before real not null default 0,
  ended_at real,
  text text not null default '',
  reason text not null default '',
  retried_as text,
  discarded_at real
) strict;
-- Two turns of one conversation cannot be: the database forbids it.
create unique index turn_one on turn (conversation) where state = 'queued' or state = 'running';
create index turn_conversation on turn (conversation, seq);
create index turn_dead on turn (seq)
  where state = 'dead' and discarded_at is null and retried_as is null;

-- Effects, in the order in which a conversation carries them out.
create table outbox (
  seq integer primary key autoincrement,
  id text not null unique,
  connector text not null,
  conversation text not null,
  turn text,
  attempt integer,
  tool_use_id text,
  kind text not null,
  state text not null check (state in ('staged', 'pending', 'sending', 'sent', 'unclear', 'dead')),
  attempts integer not null default 0,
  not_before real not null default 0,
  created_at real not null,
  started_at real,
  ended_at real,
  ref text,
  reason text not null default '',
  discarded_at real,
  target text not null,
  body text not null,
  names text not null
) strict;
create index outbox_pending on outbox (connector, not_before, seq) where state = 'pending';
create index outbox_order on outbox (conversation, seq) where state = 'pending';
create index outbox_sending on outbox (conversation, connector) where state = 'sending';
create index outbox_staged on outbox (turn) where state = 'staged';
create index outbox_conversation on outbox (conversation, seq);
create index outbox_kind on outbox (connector, kind, created_at);
create index outbox_trouble on outbox (state, seq)
  where (state = 'unclear' or state = 'dead') and discarded_at is null;

create table cursor (
  connector text not null,
  folder text not null,
  uidvalidity integer not null,
  uid integer not null,
  primary key (connector, folder)
) strict, without rowid;

create table cost (
  id integer primary key autoincrement,
  conversation text not null,
  turn text not null,
  booked_on text not null,
  trust text not null,
  model text not null,
  input integer not null,
  output integer not null,
  cache_read integer not null,
  cache_write integer not null,
  cost real not null,
  status integer not null,
  started_at real not null,
  seconds real not null
) strict;
create index cost_turn on cost (turn, cost);
create index cost_day on cost (started_at, trust, cost);
create index cost_conversation on cost (conversation, cost);

-- What happened to a turn or an effect besides what its row says: `postroom trace`.
create table event (
  id integer primary key autoincrement,
  at real not null,
  conversation text not null,
  subject text not null,
  what text not null,
  detail text not null
) strict;
create index event_subject on event (subject, id);
create index event_conversation on event (conversation);
