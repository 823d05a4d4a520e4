-- +goose Up
-- What open sessions must learn though every push of it is lost: a login that has
-- ended, or somebody who is no longer to be seen. Read by every logic process each
-- second; kept for an hour. hidden_id 0: a login, of all devices where device is ''.
CREATE TABLE IF NOT EXISTS revocations (
  id             BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  user_id        BIGINT UNSIGNED NOT NULL,
  device         VARBINARY(64)   NOT NULL,
  token_version  INT UNSIGNED    NOT NULL, -- sessions below it end
  device_version INT UNSIGNED    NOT NULL,
  hidden_id      BIGINT UNSIGNED NOT NULL,
  at             BIGINT          NOT NULL,
  PRIMARY KEY (id),
  KEY revocations_at (at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
