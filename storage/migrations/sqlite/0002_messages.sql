-- +goose Up
CREATE TABLE conversations (
  id         TEXT    NOT NULL PRIMARY KEY CHECK (length(id) <= 40),
  kind       INTEGER NOT NULL, -- 1 one-to-one, 2 channel
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE members (
  user_id       INTEGER NOT NULL,
  conversation  TEXT    NOT NULL CHECK (length(conversation) <= 40),
  join_seq      INTEGER NOT NULL,
  leave_seq     INTEGER NOT NULL DEFAULT 0,
  delivered_seq INTEGER NOT NULL DEFAULT 0,
  read_seq      INTEGER NOT NULL DEFAULT 0,
  floor_seq     INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (user_id, conversation)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_conversation ON members (conversation, user_id);

-- WITHOUT ROWID clusters by (conversation, seq): a page of history is one range
-- read. The three unique keys are the fence (DESIGN, Store).
CREATE TABLE messages (
  conversation    TEXT    NOT NULL CHECK (length(CAST(conversation AS BLOB)) <= 40),
  seq             INTEGER NOT NULL,
  id              INTEGER NOT NULL,
  sender          INTEGER NOT NULL,
  client_msg_id   TEXT    NOT NULL CHECK (length(CAST(client_msg_id AS BLOB)) <= 64),
  sender_handle   TEXT    NOT NULL CHECK (length(CAST(sender_handle AS BLOB)) <= 64),
  sender_nickname TEXT    NOT NULL CHECK (length(sender_nickname) <= 255),
  sender_avatar   TEXT    NOT NULL CHECK (length(CAST(sender_avatar AS BLOB)) <= 2048),
  type            TEXT    NOT NULL CHECK (length(type) <= 16),
  content         BLOB    NOT NULL CHECK (length(content) < 16777216),
  content_hash    BLOB    NOT NULL,
  stored_at       INTEGER NOT NULL,
  PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX messages_client_msg_id ON messages (conversation, sender, client_msg_id);
CREATE UNIQUE INDEX messages_id ON messages (id);

CREATE TABLE uncounted (
  conversation TEXT    NOT NULL,
  seq          INTEGER NOT NULL,
  user_id      INTEGER NOT NULL, -- 0: for all
  PRIMARY KEY (conversation, seq, user_id)
) STRICT, WITHOUT ROWID;
