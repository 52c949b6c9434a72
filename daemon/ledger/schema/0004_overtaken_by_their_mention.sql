-- What was not addressed keeps its text for some minutes: its mention may have been overtaken on the
-- wire. This finds what has to be let go of.
create index inbox_unaddressed on inbox (registered_at)
  where state = 'ignored' and body is not null;
