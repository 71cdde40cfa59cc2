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

-- name: has_link_table
SELECT pg_catalog.to_regclass('syncline_link') IS NOT NULL;

-- name: create_link_table
-- Which record of one system is which of the other, where the target makes its own keys.
CREATE TABLE IF NOT EXISTS syncline_link (
  rule_set   varchar(40) NOT NULL,
  link       varchar(64) NOT NULL,
  source     varchar(64) NOT NULL,
  source_key text NOT NULL,
  target     varchar(64) NOT NULL,
  target_key text NOT NULL,
  batch      bigint NOT NULL,
  made_us    bigint NOT NULL,
  PRIMARY KEY (rule_set, link, source, target, source_key)
);

-- name: write_link
INSERT INTO syncline_link (rule_set, link, source, source_key, target, target_key, batch, made_us)
VALUES (%(rule_set)s, %(link)s, %(source)s, %(source_key)s, %(target)s, %(target_key)s, %(batch)s, %(made_us)s)
ON CONFLICT (rule_set, link, source, target, source_key)
DO UPDATE SET target_key = excluded.target_key, batch = excluded.batch, made_us = excluded.made_us;

-- name: remove_link
DELETE FROM syncline_link
WHERE rule_set = %(rule_set)s AND link = %(link)s AND source = %(source)s AND target = %(target)s AND source_key = %(source_key)s;

-- name: read_links
SELECT link, source, source_key, target, target_key, batch, made_us FROM syncline_link WHERE rule_set = %(rule_set)s ORDER BY made_us, batch;

-- name: made_key
-- What gives a column its next value.
SELECT coalesce(
  (SELECT format('nextval(%%L::regclass)', pg_catalog.pg_get_serial_sequence(%(table)s, a.attname::text))
   FROM pg_catalog.pg_attribute AS a
   WHERE a.attrelid = %(table)s::regclass AND a.attname = %(column)s AND a.attidentity <> ''),
  (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid)
   FROM pg_catalog.pg_attrdef AS d JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
   WHERE d.adrelid = %(table)s::regclass AND a.attname = %(column)s));

-- name: row_triggers_before
-- Triggers that may drop or change a row before it is written.
SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = %(table)s::regclass AND tgtype & 3 = 3 AND tgenabled <> 'D');

-- name: foreign_key_columns
-- The columns of one of the table's own foreign keys; nothing for a key of another table that refers to it.
SELECT a.attname::text FROM pg_catalog.pg_constraint AS f
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey)
WHERE f.conrelid = %(table)s::regclass AND f.conname = %(name)s AND f.contype = 'f';
