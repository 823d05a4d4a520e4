-- +goose Up
-- When prev_refresh_hash was exchanged, and what it was exchanged for and has not come
-- back since it was shown once more: if that does after all, two hold the device's tokens.
ALTER TABLE devices ADD COLUMN refreshed_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN spare_refresh_hash BLOB NULL;
CREATE INDEX devices_spare_refresh_hash ON devices (spare_refresh_hash);
