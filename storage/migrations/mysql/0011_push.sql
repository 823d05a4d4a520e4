-- +goose Up
-- One push token reaches one device: a hash of provider and token, NULL where there is
-- none.
SET @ddl = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'devices' AND column_name = 'push_hash') > 0, 'DO 0',
  'ALTER TABLE devices
    ADD COLUMN push_hash BINARY(16) NULL,
    ADD UNIQUE KEY devices_push_hash (push_hash)');
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
