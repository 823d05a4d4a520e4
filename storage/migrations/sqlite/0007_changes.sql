-- +goose Up
ALTER TABLE messages ADD COLUMN about       BLOB;
ALTER TABLE messages ADD COLUMN change_no   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN edited_at   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN recalled_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN edits       INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN edit_change INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN reactions   BLOB;
ALTER TABLE members  ADD COLUMN deletions   INTEGER NOT NULL DEFAULT 0;

-- 1, 2, 3 … in each conversation: the primary key is the fence, as of seqs. What could
-- not be done any more has its number too, so that it stays decided.
CREATE TABLE message_changes (
  conversation     TEXT    NOT NULL CHECK (length(CAST(conversation AS BLOB)) <= 40),
  change_no        INTEGER NOT NULL,
  seq              INTEGER NOT NULL,
  kind             TEXT    NOT NULL CHECK (length(kind) <= 16),
  actor            INTEGER NOT NULL,
  client_change_id TEXT    NOT NULL CHECK (length(CAST(client_change_id AS BLOB)) <= 64),
  request_hash     BLOB    NOT NULL, -- of what the client asked for
  outcome          INTEGER NOT NULL, -- 0 done, else why not
  changed_at       INTEGER NOT NULL,
  PRIMARY KEY (conversation, change_no)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX message_changes_client ON message_changes (conversation, actor, client_change_id);

-- What a message said before the edit change_no.
CREATE TABLE message_edits (
  conversation TEXT    NOT NULL,
  seq          INTEGER NOT NULL,
  change_no    INTEGER NOT NULL,
  content      BLOB    NOT NULL,
  said_at      INTEGER NOT NULL,
  PRIMARY KEY (conversation, seq, change_no)
) STRICT, WITHOUT ROWID;

-- Who reacted; messages.reactions counts them.
CREATE TABLE reactions (
  conversation TEXT    NOT NULL,
  seq          INTEGER NOT NULL,
  user_id      INTEGER NOT NULL,
  reaction     TEXT    NOT NULL CHECK (length(CAST(reaction AS BLOB)) <= 32),
  change_no    INTEGER NOT NULL,
  PRIMARY KEY (conversation, seq, user_id, reaction)
) STRICT, WITHOUT ROWID;
CREATE INDEX reactions_who ON reactions (conversation, seq, reaction, change_no, user_id);

CREATE TABLE mentions (
  user_id      INTEGER NOT NULL,
  conversation TEXT    NOT NULL,
  seq          INTEGER NOT NULL,
  PRIMARY KEY (user_id, conversation, seq)
) STRICT, WITHOUT ROWID;

-- Deleted by a user for themselves; members.deletions is the last number.
CREATE TABLE deleted (
  user_id      INTEGER NOT NULL,
  conversation TEXT    NOT NULL,
  seq          INTEGER NOT NULL,
  deletion     INTEGER NOT NULL,
  PRIMARY KEY (user_id, conversation, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX deleted_number ON deleted (user_id, conversation, deletion);
