-- What information_schema says of a table. Parameters: database, table.

-- name: tables
-- Parameter: database.
SELECT table_name, table_type
FROM information_schema.tables
WHERE table_schema = %s;

-- name: columns
SELECT column_name, data_type, column_type, is_nullable, column_default, extra, character_set_name, collation_name,
       character_maximum_length, numeric_precision, numeric_scale, datetime_precision
FROM information_schema.columns
WHERE table_schema = %s AND table_name = %s
ORDER BY ordinal_position;

-- name: mariadb_checks
SELECT check_clause
FROM information_schema.check_constraints
WHERE constraint_schema = %s AND table_name = %s;

-- name: unique_indexes
-- sub_part: the index holds only the beginning of the column. column_name is NULL for an expression.
SELECT index_name, column_name, sub_part
FROM information_schema.statistics
WHERE table_schema = %s AND table_name = %s AND non_unique = 0
ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index;

-- name: foreign_keys
SELECT k.constraint_name, k.column_name, k.referenced_table_schema, k.referenced_table_name, k.referenced_column_name,
       r.delete_rule, r.update_rule
FROM information_schema.key_column_usage AS k
JOIN information_schema.referential_constraints AS r
  ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name AND r.table_name = k.table_name
WHERE k.table_schema = %s AND k.table_name = %s AND k.referenced_table_name IS NOT NULL
ORDER BY k.constraint_name, k.ordinal_position;
