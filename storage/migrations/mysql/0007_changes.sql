-- +goose Up
-- What changes a message, and what a message refers to. The new columns stand at the
-- end and have defaults, so that adding them touches no row.
SET @ddl = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'messages' AND column_name = 'change_no') > 0, 'DO 0',
  'ALTER TABLE messages
    ADD COLUMN about       BLOB                NULL,
    ADD COLUMN change_no   BIGINT UNSIGNED NOT NULL DEFAULT 0,
    ADD COLUMN edited_at   BIGINT          NOT NULL DEFAULT 0,
    ADD COLUMN recalled_at BIGINT          NOT NULL DEFAULT 0,
    ADD COLUMN edits       INT UNSIGNED    NOT NULL DEFAULT 0,
    ADD COLUMN edit_change BIGINT UNSIGNED NOT NULL DEFAULT 0,
    ADD COLUMN reactions   BLOB                NULL,
    ALGORITHM=INSTANT');
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
SET @ddl = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'members' AND column_name = 'deletions') > 0, 'DO 0',
  'ALTER TABLE members ADD COLUMN deletions BIGINT UNSIGNED NOT NULL DEFAULT 0, ALGORITHM=INSTANT');
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;

-- 1, 2, 3 … in each conversation: the primary key is the fence, as of seqs. What could
-- not be done any more has its number too, so that it stays decided.
CREATE TABLE IF NOT EXISTS message_changes (
  conversation     VARBINARY(40)   NOT NULL,
  change_no        BIGINT UNSIGNED NOT NULL,
  seq              BIGINT UNSIGNED NOT NULL,
  kind             VARBINARY(16)   NOT NULL,
  actor            BIGINT UNSIGNED NOT NULL,
  client_change_id VARBINARY(64)   NOT NULL,
  request_hash     BINARY(16)      NOT NULL, -- of what the client asked for
  outcome          TINYINT         NOT NULL, -- 0 done, else why not
  changed_at       BIGINT          NOT NULL,
  PRIMARY KEY (conversation, change_no),
  UNIQUE KEY message_changes_client (conversation, actor, client_change_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;

-- What a message said before the edit change_no.
CREATE TABLE IF NOT EXISTS message_edits (
  conversation VARBINARY(40)   NOT NULL,
  seq          BIGINT UNSIGNED NOT NULL,
  change_no    BIGINT UNSIGNED NOT NULL,
  content      MEDIUMBLOB      NOT NULL,
  said_at      BIGINT          NOT NULL,
  PRIMARY KEY (conversation, seq, change_no)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;

-- Who reacted; messages.reactions counts them.
CREATE TABLE IF NOT EXISTS reactions (
  conversation VARBINARY(40)   NOT NULL,
  seq          BIGINT UNSIGNED NOT NULL,
  user_id      BIGINT UNSIGNED NOT NULL,
  reaction     VARBINARY(32)   NOT NULL,
  change_no    BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (conversation, seq, user_id, reaction),
  KEY reactions_who (conversation, seq, reaction, change_no, user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;

CREATE TABLE IF NOT EXISTS mentions (
  user_id      BIGINT UNSIGNED NOT NULL,
  conversation VARBINARY(40)   NOT NULL,
  seq          BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (user_id, conversation, seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Deleted by a user for themselves; members.deletions is the last number.
CREATE TABLE IF NOT EXISTS deleted (
  user_id      BIGINT UNSIGNED NOT NULL,
  conversation VARBINARY(40)   NOT NULL,
  seq          BIGINT UNSIGNED NOT NULL,
  deletion     BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (user_id, conversation, seq),
  UNIQUE KEY deleted_number (user_id, conversation, deletion)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
