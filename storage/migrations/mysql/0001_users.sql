-- +goose Up
-- DDL commits by itself here: each statement can be run again after a crash
-- between two of them. Names of users and keys are bytes (VARBINARY): compared
-- byte by byte, no case folding, no padding. Times are Unix milliseconds.
CREATE TABLE IF NOT EXISTS users (
  id            BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  handle        VARBINARY(64)   NOT NULL,
  external_id   VARBINARY(255)      NULL,
  nickname      VARCHAR(255)    NOT NULL,
  avatar        VARBINARY(2048) NOT NULL,
  password_hash VARBINARY(255)  NOT NULL,
  token_version INT UNSIGNED    NOT NULL DEFAULT 1,
  state         TINYINT         NOT NULL DEFAULT 0, -- 0 active, 1 banned, 2 deleted
  created_at    BIGINT          NOT NULL,
  updated_at    BIGINT          NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY users_handle (handle),
  UNIQUE KEY users_external_id (external_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;

CREATE TABLE IF NOT EXISTS devices (
  user_id           BIGINT UNSIGNED NOT NULL,
  device            VARBINARY(64)   NOT NULL,
  platform          VARBINARY(64)   NOT NULL,
  device_version    INT UNSIGNED    NOT NULL, -- starts at the second of creation, so a row made anew is never lower
  refresh_hash      BINARY(32)          NULL,
  prev_refresh_hash BINARY(32)          NULL, -- exchanged last: whoever shows it again stole it, or was stolen from
  refresh_expires   BIGINT          NOT NULL,
  revoked_at        BIGINT          NOT NULL DEFAULT 0,
  created_at        BIGINT          NOT NULL,
  seen_at           BIGINT          NOT NULL,
  PRIMARY KEY (user_id, device),
  UNIQUE KEY devices_refresh_hash (refresh_hash),
  KEY devices_prev_refresh_hash (prev_refresh_hash)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;

CREATE TABLE IF NOT EXISTS blocks (
  user_id    BIGINT UNSIGNED NOT NULL,
  blocked_id BIGINT UNSIGNED NOT NULL,
  created_at BIGINT          NOT NULL,
  PRIMARY KEY (user_id, blocked_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
