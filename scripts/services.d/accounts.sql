-- Run by the server itself at every start, before it listens, so that the
-- accounts always have the passwords in data/services/mysql.env. One statement a
-- line: an init file knows no other form.
CREATE DATABASE IF NOT EXISTS curlew CHARACTER SET utf8mb4;
-- The engine at run time: rows, never tables.
CREATE USER IF NOT EXISTS 'curlew'@'@HOST@' IDENTIFIED BY '@PASSWORD@';
ALTER USER 'curlew'@'@HOST@' IDENTIFIED BY '@PASSWORD@';
GRANT SELECT, INSERT, UPDATE, DELETE ON `curlew%`.* TO 'curlew'@'@HOST@';
-- Migrations and tests: anything inside databases whose names begin with curlew;
-- outside them only what a fault test needs (KILL, read_only, a global read lock).
CREATE USER IF NOT EXISTS 'curlew_admin'@'@HOST@' IDENTIFIED BY '@ADMIN_PASSWORD@';
ALTER USER 'curlew_admin'@'@HOST@' IDENTIFIED BY '@ADMIN_PASSWORD@';
GRANT ALL PRIVILEGES ON `curlew%`.* TO 'curlew_admin'@'@HOST@';
GRANT PROCESS, RELOAD, CONNECTION ADMIN, READ_ONLY ADMIN ON *.* TO 'curlew_admin'@'@HOST@';
