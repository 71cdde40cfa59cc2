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
