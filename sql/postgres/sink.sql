-- What the sink says beside the rows. The side table lies in the schema that the connection's search path finds first.

-- name: has_checkpoint_table
SELECT pg_catalog.to_regclass('syncline_checkpoint') IS NOT NULL;

-- name: create_checkpoint_table
-- One row per direction, changed in each of our transactions: half-filled pages keep these updates inside their page.
CREATE TABLE IF NOT EXISTS syncline_checkpoint (
  rule_set   varchar(100) NOT NULL,
  source     varchar(100) NOT NULL,
  batch      bigint NOT NULL,
  position   text NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (rule_set, source)
) WITH (fillfactor = 50);

-- name: read_marker
SELECT batch, position FROM syncline_checkpoint WHERE rule_set = %(rule_set)s AND source = %(source)s;

-- name: begin
-- Deferred constraints strike inside the write that breaks them, so that the row at fault can be told.
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET CONSTRAINTS ALL IMMEDIATE;

-- name: write_marker
INSERT INTO syncline_checkpoint (rule_set, source, batch, position, updated_at)
VALUES (%(rule_set)s, %(source)s, %(batch)s, %(position)s, clock_timestamp())
ON CONFLICT (rule_set, source) DO UPDATE SET batch = excluded.batch, position = excluded.position, updated_at = excluded.updated_at;

-- name: row_triggers_before
-- Triggers that may drop or change a row before it is written.
SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = %(table)s::regclass AND tgtype & 3 = 3 AND tgenabled <> 'D');

-- name: foreign_key_columns
-- The columns of one of the table's own foreign keys; nothing for a key of another table that refers to it.
SELECT a.attname::text FROM pg_catalog.pg_constraint AS f
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey)
WHERE f.conrelid = %(table)s::regclass AND f.conname = %(name)s AND f.contype = 'f';
