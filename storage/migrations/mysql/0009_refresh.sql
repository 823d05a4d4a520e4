-- +goose Up
-- When prev_refresh_hash was exchanged, and what it was exchanged for and has not come
-- back since it was shown once more: if that does after all, two hold the device's tokens.
SET @ddl = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'devices' AND column_name = 'refreshed_at') > 0, 'DO 0',
  'ALTER TABLE devices
    ADD COLUMN refreshed_at       BIGINT     NOT NULL DEFAULT 0,
    ADD COLUMN spare_refresh_hash BINARY(32)     NULL,
    ADD KEY devices_spare_refresh_hash (spare_refresh_hash)');
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
