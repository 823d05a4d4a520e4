-- +goose Up
-- What was given up, and why. conversation '' where the record could not be read.
CREATE TABLE IF NOT EXISTS dead (
  id            BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  topic         VARBINARY(249)  NOT NULL,
  partition_no  INT             NOT NULL,
  record_offset BIGINT          NOT NULL,
  conversation  VARBINARY(40)   NOT NULL,
  sender        BIGINT UNSIGNED NOT NULL,
  client_msg_id VARBINARY(64)   NOT NULL,
  content_hash  BINARY(16)      NOT NULL,
  reason        VARBINARY(1000) NOT NULL,
  payload       MEDIUMBLOB      NOT NULL,
  parked_at     BIGINT          NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY dead_record (topic, partition_no, record_offset),
  KEY dead_message (conversation, sender, client_msg_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;

-- One row. Doubt stands while noted > cleared: Redis may have missed something.
CREATE TABLE IF NOT EXISTS doubt (
  id       TINYINT         NOT NULL,
  noted    BIGINT UNSIGNED NOT NULL,
  cleared  BIGINT UNSIGNED NOT NULL,
  reason   VARBINARY(1000) NOT NULL,
  noted_at BIGINT          NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
INSERT INTO doubt (id, noted, cleared, reason, noted_at) VALUES (1, 0, 0, '', 0)
  ON DUPLICATE KEY UPDATE id = 1;

-- The 32 node numbers of message IDs, all rows from the beginning.
CREATE TABLE IF NOT EXISTS node_leases (
  node       INT           NOT NULL,
  holder     VARBINARY(64) NOT NULL,
  expires_at BIGINT        NOT NULL,
  PRIMARY KEY (node)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
INSERT INTO node_leases (node, holder, expires_at) VALUES
  (0,'',0),(1,'',0),(2,'',0),(3,'',0),(4,'',0),(5,'',0),(6,'',0),(7,'',0),
  (8,'',0),(9,'',0),(10,'',0),(11,'',0),(12,'',0),(13,'',0),(14,'',0),(15,'',0),
  (16,'',0),(17,'',0),(18,'',0),(19,'',0),(20,'',0),(21,'',0),(22,'',0),(23,'',0),
  (24,'',0),(25,'',0),(26,'',0),(27,'',0),(28,'',0),(29,'',0),(30,'',0),(31,'',0)
  ON DUPLICATE KEY UPDATE node = VALUES(node);
