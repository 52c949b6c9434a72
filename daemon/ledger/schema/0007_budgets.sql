-- What each budget is summed by; conversation, turn and day have their indexes since the first
-- version. Costs of before are booked on no channel.
alter table cost add column connector text not null default '';
alter table cost add column channel text not null default '';
update cost set connector = coalesce((select connector from turn where turn.id = cost.turn), '');
create index cost_sender on cost (booked_on, started_at, cost);
create index cost_connector on cost (connector, started_at, cost);
create index cost_channel on cost (channel, started_at, cost);

-- What operators added to a budget's limit, until a time (null: for good).
create table budget_raise (
  id integer primary key autoincrement,
  scope text not null,
  whose text not null,
  dollars real not null,
  until real,
  at real not null
) strict;
