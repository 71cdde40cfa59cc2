-- Our side table: one row per direction. Written first in each of our transactions, so that its change marks the transaction in the log as ours.

-- name: create_checkpoint
CREATE TABLE IF NOT EXISTS syncline_checkpoint (
  rule_set   varchar(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  source     varchar(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  batch      bigint NOT NULL,
  position   mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  updated_at datetime(6) NOT NULL,
  PRIMARY KEY (rule_set, source)
) ENGINE = InnoDB;

-- name: read_checkpoint
-- Parameters: rule_set, source.
SELECT batch, position
FROM syncline_checkpoint
WHERE rule_set = %s AND source = %s;

-- name: write_checkpoint
-- Parameters: rule_set, source, batch, position. The table is ours and has one unique key.
INSERT INTO syncline_checkpoint (rule_set, source, batch, position, updated_at)
VALUES (%s, %s, %s, %s, UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE batch = VALUES(batch), position = VALUES(position), updated_at = VALUES(updated_at);

-- name: create_link
-- Which record of one system is which of the other, where the target makes its own keys.
CREATE TABLE IF NOT EXISTS syncline_link (
  rule_set   varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  link       varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  source     varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  source_key varchar(400) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  target     varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  target_key varchar(400) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  batch      bigint NOT NULL,
  made_us    bigint NOT NULL,
  PRIMARY KEY (rule_set, link, source, target, source_key)
) ENGINE = InnoDB;

-- name: write_link
-- Parameters: rule_set, link, source, source_key, target, target_key, batch, made_us. The table is ours and has one unique key.
INSERT INTO syncline_link (rule_set, link, source, source_key, target, target_key, batch, made_us)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE target_key = VALUES(target_key), batch = VALUES(batch), made_us = VALUES(made_us);

-- name: remove_link
-- Parameters: rule_set, link, source, target, source_key.
DELETE FROM syncline_link
WHERE rule_set = %s AND link = %s AND source = %s AND target = %s AND source_key = %s;

-- name: read_links
-- Parameter: rule_set.
SELECT link, source, source_key, target, target_key, batch, made_us
FROM syncline_link
WHERE rule_set = %s
ORDER BY made_us, batch;
