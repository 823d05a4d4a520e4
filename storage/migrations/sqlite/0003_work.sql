-- +goose Up
-- What was given up, and why. conversation '' where the record could not be read.
CREATE TABLE dead (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  topic         TEXT    NOT NULL,
  partition_no  INTEGER NOT NULL,
  record_offset INTEGER NOT NULL,
  conversation  TEXT    NOT NULL,
  sender        INTEGER NOT NULL,
  client_msg_id TEXT    NOT NULL,
  content_hash  BLOB    NOT NULL,
  reason        TEXT    NOT NULL,
  payload       BLOB    NOT NULL,
  parked_at     INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX dead_record ON dead (topic, partition_no, record_offset);
CREATE INDEX dead_message ON dead (conversation, sender, client_msg_id);

-- One row. Doubt stands while noted > cleared: Redis may have missed something.
CREATE TABLE doubt (
  id       INTEGER PRIMARY KEY,
  noted    INTEGER NOT NULL,
  cleared  INTEGER NOT NULL,
  reason   TEXT    NOT NULL,
  noted_at INTEGER NOT NULL
) STRICT;
INSERT INTO doubt (id, noted, cleared, reason, noted_at) VALUES (1, 0, 0, '', 0);

-- The 32 node numbers of message IDs, all rows from the beginning.
CREATE TABLE node_leases (
  node       INTEGER PRIMARY KEY,
  holder     TEXT    NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT;
INSERT INTO node_leases (node, holder, expires_at) VALUES
  (0,'',0),(1,'',0),(2,'',0),(3,'',0),(4,'',0),(5,'',0),(6,'',0),(7,'',0),
  (8,'',0),(9,'',0),(10,'',0),(11,'',0),(12,'',0),(13,'',0),(14,'',0),(15,'',0),
  (16,'',0),(17,'',0),(18,'',0),(19,'',0),(20,'',0),(21,'',0),(22,'',0),(23,'',0),
  (24,'',0),(25,'',0),(26,'',0),(27,'',0),(28,'',0),(29,'',0),(30,'',0),(31,'',0);
