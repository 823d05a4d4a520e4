-- +goose Up
-- What a user has set, and how far the list of their contacts has come. A user
-- without a row has set nothing and changed nothing.
CREATE TABLE people (
  user_id          INTEGER PRIMARY KEY,
  message_policy   INTEGER NOT NULL DEFAULT 0, -- 0 everyone, 1 contacts
  contacts_version INTEGER NOT NULL DEFAULT 0,
  contacts_floor   INTEGER NOT NULL DEFAULT 0  -- what ended up to here may have been forgotten
) STRICT;

-- One row for each side of a pair. version is the owner's, taken under the lock of
-- both users' rows: what changed since a version is complete.
CREATE TABLE contacts (
  user_id    INTEGER NOT NULL,
  peer_id    INTEGER NOT NULL,
  state      INTEGER NOT NULL, -- 0 none, 1 contact, 2 outgoing, 3 incoming, 4 refused
  request_id INTEGER NOT NULL, -- 0: none
  remark     TEXT    NOT NULL CHECK (length(remark) <= 255),
  version    INTEGER NOT NULL,
  changed_at INTEGER NOT NULL,
  PRIMARY KEY (user_id, peer_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX contacts_version ON contacts (user_id, version);
CREATE INDEX contacts_state ON contacts (user_id, state, version);

-- Pending requests, and the one by which two became contacts, so that accepting it
-- again is answered alike.
CREATE TABLE contact_requests (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  from_id    INTEGER NOT NULL,
  to_id      INTEGER NOT NULL,
  message    TEXT    NOT NULL CHECK (length(message) <= 1000),
  accepted   INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX contact_requests_pair ON contact_requests (from_id, to_id);
CREATE INDEX contact_requests_from ON contact_requests (from_id, accepted, id);
CREATE INDEX contact_requests_to ON contact_requests (to_id, accepted, id);
