-- +goose Up
-- What a user has set, and how far the list of their contacts has come. A user
-- without a row has set nothing and changed nothing.
CREATE TABLE IF NOT EXISTS people (
  user_id          BIGINT UNSIGNED NOT NULL,
  message_policy   TINYINT         NOT NULL DEFAULT 0, -- 0 everyone, 1 contacts
  contacts_version BIGINT UNSIGNED NOT NULL DEFAULT 0,
  contacts_floor   BIGINT UNSIGNED NOT NULL DEFAULT 0, -- what ended up to here may have been forgotten
  PRIMARY KEY (user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- One row for each side of a pair. version is the owner's, taken under the lock of
-- both users' rows: what changed since a version is complete.
CREATE TABLE IF NOT EXISTS contacts (
  user_id    BIGINT UNSIGNED NOT NULL,
  peer_id    BIGINT UNSIGNED NOT NULL,
  state      TINYINT         NOT NULL, -- 0 none, 1 contact, 2 outgoing, 3 incoming, 4 refused
  request_id BIGINT UNSIGNED NOT NULL, -- 0: none
  remark     VARCHAR(255)    NOT NULL,
  version    BIGINT UNSIGNED NOT NULL,
  changed_at BIGINT          NOT NULL,
  PRIMARY KEY (user_id, peer_id),
  KEY contacts_version (user_id, version),
  KEY contacts_state (user_id, state, version)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Pending requests, and the one by which two became contacts, so that accepting it
-- again is answered alike.
CREATE TABLE IF NOT EXISTS contact_requests (
  id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  from_id    BIGINT UNSIGNED NOT NULL,
  to_id      BIGINT UNSIGNED NOT NULL,
  message    VARCHAR(1000)   NOT NULL,
  accepted   TINYINT         NOT NULL DEFAULT 0,
  created_at BIGINT          NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY contact_requests_pair (from_id, to_id),
  KEY contact_requests_from (from_id, accepted, id),
  KEY contact_requests_to (to_id, accepted, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;
