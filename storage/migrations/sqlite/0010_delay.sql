-- +goose Up
-- Messages that wait for their time. request is what was asked for, decided anew when
-- it is due. next_at is when the owner of the partition looks at the row: due_at, or for
-- a row in queue when it is claimed again.
CREATE TABLE scheduled (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  conversation  TEXT    NOT NULL,
  partition_no  INTEGER NOT NULL,
  sender        INTEGER NOT NULL,
  client_msg_id TEXT    NOT NULL,
  by_server     INTEGER NOT NULL,
  request       BLOB    NOT NULL, -- JSON
  content_hash  BLOB    NOT NULL,
  due_at        INTEGER NOT NULL,
  next_at       INTEGER NOT NULL,
  state         INTEGER NOT NULL DEFAULT 0, -- 0 pending, 1 in queue, 2 sent, 3 failed, 4 cancelled
  reason        TEXT    NOT NULL DEFAULT '',
  created_at    INTEGER NOT NULL,
  updated_at    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX scheduled_client_msg_id ON scheduled (conversation, sender, client_msg_id);
CREATE INDEX scheduled_next ON scheduled (partition_no, state, next_at, id);
CREATE INDEX scheduled_conversation ON scheduled (conversation, state, due_at, id);
CREATE INDEX scheduled_sender ON scheduled (sender, state, due_at, id);
CREATE INDEX scheduled_final ON scheduled (state, updated_at);

-- What operators have set of worker pools: scope '' is all processes.
CREATE TABLE pool_settings (
  scope      TEXT    NOT NULL,
  lane       TEXT    NOT NULL,
  settings   TEXT    NOT NULL, -- JSON, what differs from the configuration
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (scope, lane)
) STRICT;

-- What has become of a dead letter: 0 open, 1 being replayed, 2 replayed, 3 discarded.
ALTER TABLE dead ADD COLUMN state INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead ADD COLUMN acted_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX dead_state ON dead (state, id);

-- Where a device is reached while it is not connected.
ALTER TABLE devices ADD COLUMN push_provider TEXT NOT NULL DEFAULT '';
ALTER TABLE devices ADD COLUMN push_token TEXT NOT NULL DEFAULT '';
