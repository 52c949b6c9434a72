-- Raw forms on disk that no message refers to any more: upkeep removes the file, then the row. A
-- trigger, so that no statement that lets go of a message can forget its file.
create table leftover (
  path text primary key
) strict, without rowid;
create index inbox_raw_path on inbox (raw_path) where raw_path is not null;
create trigger inbox_raw_path_gone after update of raw_path on inbox
when old.raw_path is not null and new.raw_path is not old.raw_path
begin
  insert into leftover (path) values (old.raw_path) on conflict do nothing;
end;

-- A dead turn is found by the turn that tries it again: `postroom trace`.
create index turn_retried_as on turn (retried_as) where retried_as is not null;
