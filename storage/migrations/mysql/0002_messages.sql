-- +goose Up
CREATE TABLE IF NOT EXISTS conversations (
  id         VARBINARY(40) NOT NULL,
  kind       TINYINT       NOT NULL, -- 1 one-to-one, 2 channel
  created_at BIGINT        NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS members (
  user_id       BIGINT UNSIGNED NOT NULL,
  conversation  VARBINARY(40)   NOT NULL,
  join_seq      BIGINT UNSIGNED NOT NULL,
  leave_seq     BIGINT UNSIGNED NOT NULL DEFAULT 0,
  delivered_seq BIGINT UNSIGNED NOT NULL DEFAULT 0,
  read_seq      BIGINT UNSIGNED NOT NULL DEFAULT 0,
  floor_seq     BIGINT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (user_id, conversation),
  KEY members_conversation (conversation, user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Clustered by (conversation, seq): a page of history is one range read. The three
-- unique keys are the fence (DESIGN, Store).
CREATE TABLE IF NOT EXISTS messages (
  conversation    VARBINARY(40)   NOT NULL,
  seq             BIGINT UNSIGNED NOT NULL,
  id              BIGINT UNSIGNED NOT NULL,
  sender          BIGINT UNSIGNED NOT NULL,
  client_msg_id   VARBINARY(64)   NOT NULL,
  sender_handle   VARBINARY(64)   NOT NULL, -- as they were called when they sent it
  sender_nickname VARCHAR(255)    NOT NULL,
  sender_avatar   VARBINARY(2048) NOT NULL,
  type            VARBINARY(16)   NOT NULL,
  content         MEDIUMBLOB      NOT NULL, -- JSON
  content_hash    BINARY(16)      NOT NULL, -- of what the client sent, before the filter
  stored_at       BIGINT          NOT NULL,
  PRIMARY KEY (conversation, seq),
  UNIQUE KEY messages_client_msg_id (conversation, sender, client_msg_id),
  UNIQUE KEY messages_id (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;

CREATE TABLE IF NOT EXISTS uncounted (
  conversation VARBINARY(40)   NOT NULL,
  seq          BIGINT UNSIGNED NOT NULL,
  user_id      BIGINT UNSIGNED NOT NULL, -- 0: for all
  PRIMARY KEY (conversation, seq, user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
