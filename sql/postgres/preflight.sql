-- What `check` asks. Nothing here changes anything.

-- name: server_facts
SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_setting('server_encoding'),
       current_setting('wal_level'), pg_catalog.pg_is_in_recovery(), current_user::text, current_database()::text, current_schema()::text;

-- name: role_facts
-- Managed services keep the replication right in a role of their own.
SELECT r.rolsuper, r.rolreplication OR r.rolsuper OR EXISTS (
         SELECT FROM pg_catalog.pg_roles AS m
         WHERE m.rolname IN ('rds_replication', 'rds_superuser', 'cloudsqlsuperuser') AND pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')),
       pg_catalog.has_database_privilege(current_database(), 'CREATE'), pg_catalog.has_database_privilege(current_database(), 'TEMPORARY')
FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user;

-- name: slot_facts
SELECT current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_catalog.pg_replication_slots),
       current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_catalog.pg_stat_replication),
       (SELECT s.active FROM pg_catalog.pg_replication_slots AS s WHERE s.slot_name = %(slot)s),
       (SELECT s.wal_status FROM pg_catalog.pg_replication_slots AS s WHERE s.slot_name = %(slot)s),
       (SELECT s.plugin::text FROM pg_catalog.pg_replication_slots AS s WHERE s.slot_name = %(slot)s),
       (SELECT s.database::text FROM pg_catalog.pg_replication_slots AS s WHERE s.slot_name = %(slot)s);

-- name: publication_facts
SELECT pg_catalog.pg_get_userbyid(p.pubowner)::text, pg_catalog.pg_has_role(p.pubowner, 'USAGE'),
       p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate
FROM pg_catalog.pg_publication AS p WHERE p.pubname = %(publication)s;

-- name: publication_tables
SELECT schemaname::text, tablename::text FROM pg_catalog.pg_publication_tables WHERE pubname = %(publication)s;

-- name: owns_table
SELECT coalesce((SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') FROM pg_catalog.pg_class AS c
                 JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                 WHERE n.nspname = %(schema)s AND c.relname = %(table)s), true);

-- name: table_facts
SELECT pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'),
       pg_catalog.has_any_column_privilege(c.oid, 'SELECT'), pg_catalog.has_any_column_privilege(c.oid, 'INSERT'),
       pg_catalog.has_any_column_privilege(c.oid, 'UPDATE'), pg_catalog.has_table_privilege(c.oid, 'DELETE'),
       c.relpersistence::text,
       pg_catalog.row_security_active(c.oid),
       (SELECT array_agg(t.tgname::text ORDER BY t.tgname) FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')),
       (SELECT array_agg(s.oid::regclass::text ORDER BY s.relname) FROM pg_catalog.pg_depend AS d
        JOIN pg_catalog.pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
        WHERE d.refobjid = c.oid AND d.deptype = 'a'
          -- CASE, because the planner may ask of an index before it looks at relkind, and that is an error
          AND CASE WHEN s.relkind = 'S' THEN NOT pg_catalog.has_sequence_privilege(s.oid, 'USAGE') ELSE false END)
FROM pg_catalog.pg_class AS c WHERE c.oid = %(table)s::regclass;

-- name: unreadable_columns
SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND a.attname::text = ANY (%(columns)s)
  AND NOT pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT');

-- name: link_facts
SELECT pg_catalog.to_regclass('syncline_link') IS NOT NULL,
       coalesce(pg_catalog.has_schema_privilege(current_schema(), 'CREATE'), false),
       coalesce((SELECT bool_and(pg_catalog.has_table_privilege(pg_catalog.to_regclass('syncline_link'), wanted))
                 FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted), false);

-- name: closed_key_sequence
-- The sequence that fills a column (identity, serial, or another one that its default names), if it may not be drawn from.
SELECT s.source::text FROM (
  SELECT coalesce(
    pg_catalog.pg_get_serial_sequence(%(table)s, a.attname::text)::regclass,
    (SELECT c.oid::regclass FROM pg_catalog.pg_attrdef AS d
     JOIN pg_catalog.pg_depend AS p ON p.classid = 'pg_catalog.pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_catalog.pg_class'::regclass
     JOIN pg_catalog.pg_class AS c ON c.oid = p.refobjid AND c.relkind = 'S'
     WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum LIMIT 1)) AS source
  FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = %(table)s::regclass AND a.attname = %(column)s) AS s
WHERE s.source IS NOT NULL AND NOT pg_catalog.has_sequence_privilege(s.source, 'USAGE');

-- name: checkpoint_facts
SELECT pg_catalog.to_regclass('syncline_checkpoint') IS NOT NULL,
       coalesce(pg_catalog.has_schema_privilege(current_schema(), 'CREATE'), false),
       coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('syncline_checkpoint'), 'SELECT')
                AND pg_catalog.has_table_privilege(pg_catalog.to_regclass('syncline_checkpoint'), 'INSERT')
                AND pg_catalog.has_table_privilege(pg_catalog.to_regclass('syncline_checkpoint'), 'UPDATE'), false);
