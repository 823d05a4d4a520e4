-- +goose Up
-- What a user has set for one conversation; without a row, nothing. version counts up
-- with each change and no row is ever removed, so the higher one holds. Not in members:
-- those rows are written with every cursor that moves.
CREATE TABLE IF NOT EXISTS conversation_settings (
  user_id      BIGINT UNSIGNED NOT NULL,
  conversation VARBINARY(40)   NOT NULL,
  version      BIGINT UNSIGNED NOT NULL,
  pinned_at    BIGINT          NOT NULL, -- 0: not pinned
  muted_until  BIGINT          NOT NULL, -- 0: not muted, 2^53-1: for ever
  marked_seq   BIGINT UNSIGNED NOT NULL, -- marked unread while the read seq is below it
  hidden_seq   BIGINT UNSIGNED NOT NULL, -- out of the list up to this last seq
  draft        MEDIUMBLOB      NOT NULL, -- UTF-8
  draft_device VARBINARY(64)   NOT NULL,
  draft_at     BIGINT          NOT NULL, -- 0: there is none
  PRIMARY KEY (user_id, conversation)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;
