-- +goose Up
-- Who is in a channel: a member is in while leave_seq <= joined_seq, and both only rise.
-- A conversation's member_ver is the seq of the last notice that moved anybody; merged
-- says that it is merged at read, closed_seq which notice ended it.
ALTER TABLE members       ADD COLUMN joined_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN member_ver INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN closed_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN merged     INTEGER NOT NULL DEFAULT 0;

-- Every change of a group holds its row's lock: the counts are exact, version is the
-- change's own number.
CREATE TABLE chat_groups (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  name            TEXT    NOT NULL CHECK (length(name) <= 255),
  avatar          TEXT    NOT NULL CHECK (length(CAST(avatar AS BLOB)) <= 2048),
  owner           INTEGER NOT NULL,
  creator         INTEGER NOT NULL,
  client_group_id TEXT        NULL, -- unique for its creator; NULL: none was given
  main_channel    INTEGER NOT NULL,
  join_policy     TEXT    NOT NULL,
  history_visible INTEGER NOT NULL,
  muted_all       INTEGER NOT NULL,
  dissolved       INTEGER NOT NULL DEFAULT 0,
  members         INTEGER NOT NULL,
  admins          INTEGER NOT NULL, -- without the owner
  channels        INTEGER NOT NULL,
  version         INTEGER NOT NULL,
  created_at      INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX chat_groups_client ON chat_groups (creator, client_group_id);

CREATE TABLE channels (
  id         INTEGER PRIMARY KEY AUTOINCREMENT, -- its conversation is c<id>
  group_id   INTEGER NOT NULL,
  name       TEXT    NOT NULL CHECK (length(name) <= 255), -- '' for the main one
  private    INTEGER NOT NULL,
  removed    INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX channels_group ON channels (group_id, removed, id);

-- Who is to be in a group; members says who is in its conversations already. moved is
-- the group's version by which the user last joined or left.
CREATE TABLE group_members (
  user_id     INTEGER NOT NULL,
  group_id    INTEGER NOT NULL,
  state       INTEGER NOT NULL, -- 0 in it, 1 has left
  role        INTEGER NOT NULL, -- 0 member, 1 admin, 2 owner
  muted_until INTEGER NOT NULL,
  joined_at   INTEGER NOT NULL,
  moved       INTEGER NOT NULL,
  PRIMARY KEY (user_id, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX group_members_group ON group_members (group_id, state, user_id);

-- Of private channels only.
CREATE TABLE channel_members (
  user_id  INTEGER NOT NULL,
  channel  INTEGER NOT NULL,
  group_id INTEGER NOT NULL,
  state    INTEGER NOT NULL,
  moved    INTEGER NOT NULL,
  PRIMARY KEY (user_id, channel)
) STRICT, WITHOUT ROWID;
CREATE INDEX channel_members_channel ON channel_members (channel, state, user_id);

CREATE TABLE join_requests (
  group_id INTEGER NOT NULL,
  user_id  INTEGER NOT NULL,
  message  TEXT    NOT NULL CHECK (length(message) <= 1000),
  asked_at INTEGER NOT NULL,
  PRIMARY KEY (group_id, user_id)
) STRICT, WITHOUT ROWID;

-- What the log must be told, from the transaction that changed the group until the one
-- that stores the notice.
CREATE TABLE group_ops (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  group_id     INTEGER NOT NULL,
  version      INTEGER NOT NULL, -- of the group, by this change
  conversation TEXT    NOT NULL,
  notice       TEXT    NOT NULL, -- JSON
  membership   TEXT    NOT NULL, -- JSON
  at           INTEGER NOT NULL,
  told_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX group_ops_change ON group_ops (group_id, version);
CREATE INDEX group_ops_told ON group_ops (told_at);
