-- What the system catalogues say of a table (https://www.postgresql.org/docs/current/catalogs.html).

-- name: find_table
-- The table by its name; an empty schema means what the search path finds.
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relreplident::text,
       has_schema_privilege(n.oid, 'USAGE'), has_any_column_privilege(c.oid, 'SELECT')
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = %(table)s
  AND CASE WHEN %(schema)s = '' THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = %(schema)s END
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f');

-- name: table_names
-- All tables a person could have meant.
SELECT n.nspname::text, c.relname::text
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\_%%' AND n.nspname <> 'information_schema'
LIMIT 20000;

-- name: table_columns
-- Its columns in order, each with the type under its domains. Enum labels in their order.
SELECT a.attname::text, a.attnotnull OR base.not_null, a.atthasdef OR base.has_default, a.attidentity::text, a.attgenerated::text,
       a.attidentity <> '' OR coalesce((
         SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) ~ '^(nextval|(\w+\.)?(gen_random_uuid|uuid_generate_v1|uuid_generate_v4|uuidv4|uuidv7))\('
         FROM pg_catalog.pg_attrdef AS d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated = ''), false),
       t.typname::text, tn.nspname = 'pg_catalog', t.typtype::text, base.typmod, pg_catalog.format_type(t.oid, base.typmod),
       (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = t.oid),
       (SELECT l.collname::text FROM pg_catalog.pg_collation AS l WHERE l.oid = a.attcollation AND NOT l.collisdeterministic)
FROM pg_catalog.pg_attribute AS a
CROSS JOIN LATERAL (
  WITH RECURSIVE walk AS (
    SELECT d.oid, a.atttypmod AS typmod, d.typtype, d.typbasetype, d.typtypmod,
           d.typnotnull AS not_null, d.typdefault IS NOT NULL AS has_default
    FROM pg_catalog.pg_type AS d WHERE d.oid = a.atttypid
    UNION ALL
    SELECT d.oid, walk.typtypmod, d.typtype, d.typbasetype, d.typtypmod,
           walk.not_null OR d.typnotnull, walk.has_default OR d.typdefault IS NOT NULL
    FROM walk JOIN pg_catalog.pg_type AS d ON d.oid = walk.typbasetype WHERE walk.typtype = 'd'
  )
  SELECT walk.oid, walk.typmod, walk.not_null, walk.has_default FROM walk WHERE walk.typtype <> 'd'
) AS base
JOIN pg_catalog.pg_type AS t ON t.oid = base.oid
JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.typnamespace
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- name: table_indexes
-- Unique indexes without predicate and expression, the primary key first.
SELECT i.indisprimary, i.indisreplident,
       (SELECT array_agg(a.attname::text ORDER BY k.place)
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
        WHERE k.place <= i.indnkeyatts)
FROM pg_catalog.pg_index AS i
WHERE i.indrelid = %(oid)s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indisprimary DESC, i.indexrelid;

-- name: table_foreign_keys
SELECT n.nspname::text, p.relname::text, f.confdeltype::text, f.confupdtype::text,
       (SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(f.conkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = k.number),
       (SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(f.confkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = f.confrelid AND a.attnum = k.number)
FROM pg_catalog.pg_constraint AS f
JOIN pg_catalog.pg_class AS p ON p.oid = f.confrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.relnamespace
WHERE f.conrelid = %(oid)s AND f.contype = 'f'
ORDER BY f.oid;
