-- Recovery may be tried more than once in a daemon's life (the pool is restarted): the epoch that
-- counted a turn's death is kept, so that one death counts once and the turn is still handed out.
alter table turn add column death_seen_by integer not null default 0;
-- A turn that the version before had taken over carries the taker's epoch already.
update turn set death_seen_by = epoch where state = 'running' and deaths > 0;
