-- What the reader asks beside the rows themselves.

-- name: begin_snapshot
-- One snapshot for a chunk and its fence. Every transaction up to the fence has ended, so the snapshot shows what it did.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint - 1;

-- name: log_end
-- Where the log is written to, whether all of it is flushed, and whose log it is.
SELECT pg_catalog.pg_current_wal_insert_lsn() = pg_catalog.pg_current_wal_flush_lsn(), pg_catalog.pg_current_wal_insert_lsn()::text,
       (SELECT system_identifier::text FROM pg_catalog.pg_control_system());

-- name: log_mark
-- An empty message, committed to disk: a place at or behind all earlier commits that a reader of the log is sure to reach.
BEGIN;
SET LOCAL synchronous_commit = local;
SELECT pg_catalog.pg_logical_emit_message(true, 'syncline', '')::text;
COMMIT;

-- name: clock
SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint;
