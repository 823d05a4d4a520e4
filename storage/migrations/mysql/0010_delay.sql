-- +goose Up
-- Messages that wait for their time. request is what was asked for, decided anew when
-- it is due. next_at is when the owner of the partition looks at the row: due_at, or for
-- a row in queue when it is claimed again.
CREATE TABLE IF NOT EXISTS scheduled (
  id            BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  conversation  VARBINARY(40)   NOT NULL,
  partition_no  INT             NOT NULL,
  sender        BIGINT UNSIGNED NOT NULL,
  client_msg_id VARBINARY(64)   NOT NULL,
  by_server     TINYINT         NOT NULL,
  request       MEDIUMBLOB      NOT NULL, -- JSON
  content_hash  BINARY(16)      NOT NULL,
  due_at        BIGINT          NOT NULL,
  next_at       BIGINT          NOT NULL,
  state         TINYINT         NOT NULL DEFAULT 0, -- 0 pending, 1 in queue, 2 sent, 3 failed, 4 cancelled
  reason        VARBINARY(64)   NOT NULL DEFAULT '',
  created_at    BIGINT          NOT NULL,
  updated_at    BIGINT          NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY scheduled_client_msg_id (conversation, sender, client_msg_id),
  KEY scheduled_next (partition_no, state, next_at, id),
  KEY scheduled_conversation (conversation, state, due_at, id),
  KEY scheduled_sender (sender, state, due_at, id),
  KEY scheduled_final (state, updated_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;

-- What operators have set of worker pools: scope '' is all processes.
CREATE TABLE IF NOT EXISTS pool_settings (
  scope      VARBINARY(64)   NOT NULL,
  lane       VARBINARY(16)   NOT NULL,
  settings   VARBINARY(2000) NOT NULL, -- JSON, what differs from the configuration
  updated_at BIGINT          NOT NULL,
  PRIMARY KEY (scope, lane)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What has become of a dead letter: 0 open, 1 being replayed, 2 replayed, 3 discarded.
SET @ddl = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'dead' AND column_name = 'state') > 0, 'DO 0',
  'ALTER TABLE dead
    ADD COLUMN state    TINYINT NOT NULL DEFAULT 0,
    ADD COLUMN attempts INT     NOT NULL DEFAULT 0,
    ADD COLUMN acted_at BIGINT  NOT NULL DEFAULT 0,
    ADD KEY dead_state (state, id)');
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;

-- Where a device is reached while it is not connected.
SET @ddl = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'devices' AND column_name = 'push_token') > 0, 'DO 0',
  'ALTER TABLE devices
    ADD COLUMN push_provider VARBINARY(32)  NOT NULL DEFAULT '''',
    ADD COLUMN push_token    VARBINARY(512) NOT NULL DEFAULT ''''');
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
