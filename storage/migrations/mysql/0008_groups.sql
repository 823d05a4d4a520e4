-- +goose Up
-- Who is in a channel: a member is in while leave_seq <= joined_seq, and both only rise.
-- A conversation's member_ver is the seq of the last notice that moved anybody; merged
-- says that it is merged at read, closed_seq which notice ended it.
SET @ddl = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'members' AND column_name = 'joined_seq') > 0, 'DO 0',
  'ALTER TABLE members ADD COLUMN joined_seq BIGINT UNSIGNED NOT NULL DEFAULT 0, ALGORITHM=INSTANT');
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;
SET @ddl = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'conversations' AND column_name = 'member_ver') > 0, 'DO 0',
  'ALTER TABLE conversations
    ADD COLUMN member_ver BIGINT UNSIGNED NOT NULL DEFAULT 0,
    ADD COLUMN closed_seq BIGINT UNSIGNED NOT NULL DEFAULT 0,
    ADD COLUMN merged     TINYINT         NOT NULL DEFAULT 0,
    ALGORITHM=INSTANT');
PREPARE ddl FROM @ddl;
EXECUTE ddl;
DEALLOCATE PREPARE ddl;

-- Every change of a group holds its row's lock: the counts are exact, version is the
-- change's own number.
CREATE TABLE IF NOT EXISTS chat_groups (
  id              BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  name            VARCHAR(255)    NOT NULL,
  avatar          VARBINARY(2048) NOT NULL,
  owner           BIGINT UNSIGNED NOT NULL,
  creator         BIGINT UNSIGNED NOT NULL,
  client_group_id VARBINARY(64)       NULL, -- unique for its creator; NULL: none was given
  main_channel    BIGINT UNSIGNED NOT NULL,
  join_policy     VARBINARY(16)   NOT NULL,
  history_visible TINYINT         NOT NULL,
  muted_all       TINYINT         NOT NULL,
  dissolved       TINYINT         NOT NULL DEFAULT 0,
  members         INT UNSIGNED    NOT NULL,
  admins          INT UNSIGNED    NOT NULL, -- without the owner
  channels        INT UNSIGNED    NOT NULL,
  version         BIGINT UNSIGNED NOT NULL,
  created_at      BIGINT          NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY chat_groups_client (creator, client_group_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;

CREATE TABLE IF NOT EXISTS channels (
  id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, -- its conversation is c<id>
  group_id   BIGINT UNSIGNED NOT NULL,
  name       VARCHAR(255)    NOT NULL, -- '' for the main one
  private    TINYINT         NOT NULL,
  removed    TINYINT         NOT NULL DEFAULT 0,
  created_at BIGINT          NOT NULL,
  PRIMARY KEY (id),
  KEY channels_group (group_id, removed, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Who is to be in a group; members says who is in its conversations already. moved is
-- the group's version by which the user last joined or left.
CREATE TABLE IF NOT EXISTS group_members (
  user_id     BIGINT UNSIGNED NOT NULL,
  group_id    BIGINT UNSIGNED NOT NULL,
  state       TINYINT         NOT NULL, -- 0 in it, 1 has left
  role        TINYINT         NOT NULL, -- 0 member, 1 admin, 2 owner
  muted_until BIGINT          NOT NULL,
  joined_at   BIGINT          NOT NULL,
  moved       BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (user_id, group_id),
  KEY group_members_group (group_id, state, user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Of private channels only.
CREATE TABLE IF NOT EXISTS channel_members (
  user_id  BIGINT UNSIGNED NOT NULL,
  channel  BIGINT UNSIGNED NOT NULL,
  group_id BIGINT UNSIGNED NOT NULL,
  state    TINYINT         NOT NULL,
  moved    BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (user_id, channel),
  KEY channel_members_channel (channel, state, user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS join_requests (
  group_id BIGINT UNSIGNED NOT NULL,
  user_id  BIGINT UNSIGNED NOT NULL,
  message  VARCHAR(1000)   NOT NULL,
  asked_at BIGINT          NOT NULL,
  PRIMARY KEY (group_id, user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;

-- What the log must be told, from the transaction that changed the group until the one
-- that stores the notice.
CREATE TABLE IF NOT EXISTS group_ops (
  id           BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  group_id     BIGINT UNSIGNED NOT NULL,
  version      BIGINT UNSIGNED NOT NULL, -- of the group, by this change
  conversation VARBINARY(40)   NOT NULL,
  notice       MEDIUMBLOB      NOT NULL, -- JSON
  membership   MEDIUMBLOB      NOT NULL, -- JSON
  at           BIGINT          NOT NULL,
  told_at      BIGINT          NOT NULL,
  PRIMARY KEY (id),
  KEY group_ops_change (group_id, version),
  KEY group_ops_told (told_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC;
