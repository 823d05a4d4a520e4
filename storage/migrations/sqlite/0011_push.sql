-- +goose Up
-- One push token reaches one device: a hash of provider and token, NULL where there is
-- none.
ALTER TABLE devices ADD COLUMN push_hash BLOB;
CREATE UNIQUE INDEX devices_push_hash ON devices (push_hash);
