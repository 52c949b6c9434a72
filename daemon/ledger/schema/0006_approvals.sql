-- Calls of tools that wait for a person's word, and that word: docs/states.md. `turn` is the one that
-- asked, or asked last; `requesters` is a JSON list of those who wrote its messages. `taken_at` says
-- when the word was used or heard by an agent that waited for it; `message` is the inbox message by
-- which it came back instead, and `words` what that says.
create table approval (
  seq integer primary key autoincrement,
  id text not null unique,
  conversation text not null,
  connector text not null,
  turn text not null,
  tool text not null,
  digest text not null,
  input text not null,
  requesters text not null,
  state text not null check (state in ('pending', 'approved', 'denied', 'used', 'expired')),
  asked_at real not null,
  decided_at real,
  decider text not null default '',
  decider_name text not null default '',
  words text not null default '',
  taken_at real,
  message text
) strict;
create index approval_call on approval (conversation, digest);
create index approval_pending on approval (conversation, seq) where state = 'pending';
create index approval_turn on approval (turn);
