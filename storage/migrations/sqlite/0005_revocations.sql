-- +goose Up
-- What open sessions must learn though every push of it is lost: a login that has
-- ended, or somebody who is no longer to be seen. Read by every logic process each
-- second; kept for an hour. hidden_id 0: a login, of all devices where device is ''.
CREATE TABLE revocations (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id        INTEGER NOT NULL,
  device         TEXT    NOT NULL,
  token_version  INTEGER NOT NULL, -- sessions below it end
  device_version INTEGER NOT NULL,
  hidden_id      INTEGER NOT NULL,
  at             INTEGER NOT NULL
) STRICT;
CREATE INDEX revocations_at ON revocations (at);
