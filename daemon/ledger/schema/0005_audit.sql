-- The audit: a chain of records that can be added to, and cut at its beginning by age: docs/audit.md.
-- `record` is canonical JSON and `hash` its SHA-256. AUTOINCREMENT keeps the highest number that was
-- ever given, so that a tail that is gone is missed.
create table audit (
  seq integer primary key autoincrement,
  at real not null,
  record text not null,
  hash text not null
) strict;

-- Up to which number retention may let go: a record tells of it before.
create table audit_cut (
  one integer primary key check (one = 1),
  through integer not null
) strict;
insert into audit_cut values (1, 0);

create trigger audit_stays_as_it_is before update on audit
begin
  select raise(abort, 'a record of the audit is never changed');
end;
create trigger audit_stays before delete on audit
when old.seq > (select through from audit_cut)
begin
  select raise(abort, 'a record of the audit goes by a cut only');
end;

-- Whom or which conversation an alias in a record means, and the salt of the digests of its texts.
-- Without its row an alias and a digest say nothing: this is what erasing removes.
create table audit_name (
  name text primary key,
  alias text not null unique,
  salt blob not null,
  last_at real not null
) strict, without rowid;
