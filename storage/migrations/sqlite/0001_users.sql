-- +goose Up
-- The same tables as for MySQL. TEXT is compared byte by byte (BINARY collation);
-- the CHECKs refuse what MySQL's column widths refuse.
CREATE TABLE users (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  handle        TEXT    NOT NULL CHECK (length(CAST(handle AS BLOB)) <= 64),
  external_id   TEXT        NULL CHECK (length(CAST(external_id AS BLOB)) <= 255),
  nickname      TEXT    NOT NULL CHECK (length(nickname) <= 255),
  avatar        TEXT    NOT NULL CHECK (length(CAST(avatar AS BLOB)) <= 2048),
  password_hash TEXT    NOT NULL CHECK (length(CAST(password_hash AS BLOB)) <= 255),
  token_version INTEGER NOT NULL DEFAULT 1,
  state         INTEGER NOT NULL DEFAULT 0, -- 0 active, 1 banned, 2 deleted
  created_at    INTEGER NOT NULL,
  updated_at    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX users_handle ON users (handle);
CREATE UNIQUE INDEX users_external_id ON users (external_id);

CREATE TABLE devices (
  user_id           INTEGER NOT NULL,
  device            TEXT    NOT NULL CHECK (length(device) <= 64),
  platform          TEXT    NOT NULL CHECK (length(platform) <= 64),
  device_version    INTEGER NOT NULL,
  refresh_hash      BLOB        NULL,
  prev_refresh_hash BLOB        NULL,
  refresh_expires   INTEGER NOT NULL,
  revoked_at        INTEGER NOT NULL DEFAULT 0,
  created_at        INTEGER NOT NULL,
  seen_at           INTEGER NOT NULL,
  PRIMARY KEY (user_id, device)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX devices_refresh_hash ON devices (refresh_hash);
CREATE INDEX devices_prev_refresh_hash ON devices (prev_refresh_hash);

CREATE TABLE blocks (
  user_id    INTEGER NOT NULL,
  blocked_id INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (user_id, blocked_id)
) STRICT, WITHOUT ROWID;
