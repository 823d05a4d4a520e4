-- +goose Up
-- What a user has set for one conversation; without a row, nothing. version counts up
-- with each change and no row is ever removed, so the higher one holds. Not in members:
-- those rows are written with every cursor that moves.
CREATE TABLE conversation_settings (
  user_id      INTEGER NOT NULL,
  conversation TEXT    NOT NULL CHECK (length(conversation) <= 40),
  version      INTEGER NOT NULL,
  pinned_at    INTEGER NOT NULL, -- 0: not pinned
  muted_until  INTEGER NOT NULL, -- 0: not muted, 2^53-1: for ever
  marked_seq   INTEGER NOT NULL, -- marked unread while the read seq is below it
  hidden_seq   INTEGER NOT NULL, -- out of the list up to this last seq
  draft        TEXT    NOT NULL,
  draft_device TEXT    NOT NULL,
  draft_at     INTEGER NOT NULL, -- 0: there is none
  PRIMARY KEY (user_id, conversation)
) STRICT, WITHOUT ROWID;
