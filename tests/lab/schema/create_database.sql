-- A mailbox group. ${DATABASE_NAME} stands for mboxgroup1 to mboxgroup100; whoever creates one puts its name there.

CREATE DATABASE ${DATABASE_NAME} DEFAULT CHARACTER SET utf8;

CREATE TABLE ${DATABASE_NAME}.mail_item (
  mailbox_id    INT UNSIGNED NOT NULL,
  id            INT UNSIGNED NOT NULL,
  type          TINYINT NOT NULL,            -- folder 1, search folder 2, tag 3, conversation 4, message 5, contact 6, document 8, ...
  parent_id     INT UNSIGNED,                -- a message's conversation, a folder's parent
  folder_id     INT UNSIGNED,
  prev_folders  TEXT,                        -- change:folder pairs, newest last: "101:2;110:5"
  index_id      INT UNSIGNED,
  imap_id       INT UNSIGNED,                -- the UID; NULL for what IMAP does not show, 0 when not given yet
  date          INT UNSIGNED NOT NULL,       -- seconds since 1970
  size          BIGINT UNSIGNED NOT NULL,
  locator       VARCHAR(1024),               -- the id of the blob's volume
  blob_digest   VARCHAR(44) BINARY,
  unread        INT UNSIGNED,
  flags         INT NOT NULL DEFAULT 0,
  tags          BIGINT NOT NULL DEFAULT 0,   -- of no use since tag_names, kept
  tag_names     TEXT,                        -- names, each between NUL bytes
  sender        VARCHAR(128),
  recipients    VARCHAR(128),
  subject       TEXT,
  name          VARCHAR(255),
  metadata      MEDIUMTEXT,
  mod_metadata  INT UNSIGNED NOT NULL,       -- the last change, of anything
  change_date   INT UNSIGNED,
  mod_content   INT UNSIGNED NOT NULL,       -- the last change of the content; part of the blob's file name
  uuid          VARCHAR(127),
  PRIMARY KEY (mailbox_id, id),
  INDEX i_type (mailbox_id, type),
  INDEX i_parent_id (mailbox_id, parent_id),
  INDEX i_folder_id_date (mailbox_id, folder_id, date),
  INDEX i_index_id (mailbox_id, index_id),
  INDEX i_date (mailbox_id, date),
  INDEX i_mod_metadata (mailbox_id, mod_metadata),
  INDEX i_uuid (mailbox_id, uuid),
  UNIQUE INDEX i_name_folder_id (mailbox_id, folder_id, name),
  CONSTRAINT fk_mail_item_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id),
  CONSTRAINT fk_mail_item_parent_id FOREIGN KEY (mailbox_id, parent_id)
    REFERENCES ${DATABASE_NAME}.mail_item (mailbox_id, id),
  CONSTRAINT fk_mail_item_folder_id FOREIGN KEY (mailbox_id, folder_id)
    REFERENCES ${DATABASE_NAME}.mail_item (mailbox_id, id)
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.mail_item_dumpster (
  mailbox_id    INT UNSIGNED NOT NULL,
  id            INT UNSIGNED NOT NULL,
  type          TINYINT NOT NULL,
  parent_id     INT UNSIGNED,
  folder_id     INT UNSIGNED,
  prev_folders  TEXT,
  index_id      INT UNSIGNED,
  imap_id       INT UNSIGNED,
  date          INT UNSIGNED NOT NULL,
  size          BIGINT UNSIGNED NOT NULL,
  locator       VARCHAR(1024),
  blob_digest   VARCHAR(44) BINARY,
  unread        INT UNSIGNED,
  flags         INT NOT NULL DEFAULT 0,
  tags          BIGINT NOT NULL DEFAULT 0,
  tag_names     TEXT,
  sender        VARCHAR(128),
  recipients    VARCHAR(128),
  subject       TEXT,
  name          VARCHAR(255),
  metadata      MEDIUMTEXT,
  mod_metadata  INT UNSIGNED NOT NULL,
  change_date   INT UNSIGNED,
  mod_content   INT UNSIGNED NOT NULL,
  uuid          VARCHAR(127),
  PRIMARY KEY (mailbox_id, id),
  INDEX i_type (mailbox_id, type),
  INDEX i_parent_id (mailbox_id, parent_id),
  INDEX i_folder_id_date (mailbox_id, folder_id, date),
  INDEX i_index_id (mailbox_id, index_id),
  INDEX i_date (mailbox_id, date),
  INDEX i_mod_metadata (mailbox_id, mod_metadata),
  INDEX i_uuid (mailbox_id, uuid),
  CONSTRAINT fk_mail_item_dumpster_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id)
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.revision (
  mailbox_id    INT UNSIGNED NOT NULL,
  item_id       INT UNSIGNED NOT NULL,
  version       INT UNSIGNED NOT NULL,
  date          INT UNSIGNED NOT NULL,
  size          BIGINT UNSIGNED NOT NULL,
  locator       VARCHAR(1024),
  blob_digest   VARCHAR(44) BINARY,
  name          VARCHAR(255),
  metadata      MEDIUMTEXT,
  mod_metadata  INT UNSIGNED NOT NULL,
  change_date   INT UNSIGNED,
  mod_content   INT UNSIGNED NOT NULL,
  PRIMARY KEY (mailbox_id, item_id, version),
  CONSTRAINT fk_revision_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id),
  CONSTRAINT fk_revision_item_id FOREIGN KEY (mailbox_id, item_id)
    REFERENCES ${DATABASE_NAME}.mail_item (mailbox_id, id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.revision_dumpster (
  mailbox_id    INT UNSIGNED NOT NULL,
  item_id       INT UNSIGNED NOT NULL,
  version       INT UNSIGNED NOT NULL,
  date          INT UNSIGNED NOT NULL,
  size          BIGINT UNSIGNED NOT NULL,
  locator       VARCHAR(1024),
  blob_digest   VARCHAR(44) BINARY,
  name          VARCHAR(255),
  metadata      MEDIUMTEXT,
  mod_metadata  INT UNSIGNED NOT NULL,
  change_date   INT UNSIGNED,
  mod_content   INT UNSIGNED NOT NULL,
  PRIMARY KEY (mailbox_id, item_id, version),
  CONSTRAINT fk_revision_dumpster_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id),
  CONSTRAINT fk_revision_dumpster_item_id FOREIGN KEY (mailbox_id, item_id)
    REFERENCES ${DATABASE_NAME}.mail_item_dumpster (mailbox_id, id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.tag (
  mailbox_id  INT UNSIGNED NOT NULL,
  id          INT NOT NULL,                  -- below 0: a flag
  name        VARCHAR(128) NOT NULL,
  color       BIGINT,
  item_count  INT NOT NULL DEFAULT 0,
  unread      INT NOT NULL DEFAULT 0,
  listed      BOOLEAN NOT NULL DEFAULT FALSE,
  sequence    INT UNSIGNED NOT NULL,
  policy      VARCHAR(1024),
  PRIMARY KEY (mailbox_id, id),
  UNIQUE INDEX i_tag_name (mailbox_id, name),
  CONSTRAINT fk_tag_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id)
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.tagged_item (
  mailbox_id  INT UNSIGNED NOT NULL,
  tag_id      INT NOT NULL,
  item_id     INT UNSIGNED NOT NULL,
  UNIQUE INDEX i_tagged_item_unique (mailbox_id, tag_id, item_id),
  CONSTRAINT fk_tagged_item_tag FOREIGN KEY (mailbox_id, tag_id)
    REFERENCES ${DATABASE_NAME}.tag (mailbox_id, id) ON DELETE CASCADE,
  CONSTRAINT fk_tagged_item_item FOREIGN KEY (mailbox_id, item_id)
    REFERENCES ${DATABASE_NAME}.mail_item (mailbox_id, id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.open_conversation (
  mailbox_id  INT UNSIGNED NOT NULL,
  hash        CHAR(28) BINARY NOT NULL,
  conv_id     INT UNSIGNED NOT NULL,
  PRIMARY KEY (mailbox_id, hash),
  INDEX i_conv_id (mailbox_id, conv_id),
  CONSTRAINT fk_open_conversation_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id),
  CONSTRAINT fk_open_conversation_conv_id FOREIGN KEY (mailbox_id, conv_id)
    REFERENCES ${DATABASE_NAME}.mail_item (mailbox_id, id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.appointment (
  mailbox_id  INT UNSIGNED NOT NULL,
  uid         VARCHAR(255) NOT NULL,
  item_id     INT UNSIGNED NOT NULL,
  start_time  DATETIME NOT NULL,
  end_time    DATETIME,
  PRIMARY KEY (mailbox_id, uid),
  UNIQUE INDEX i_item_id (mailbox_id, item_id),
  CONSTRAINT fk_appointment_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id),
  CONSTRAINT fk_appointment_item_id FOREIGN KEY (mailbox_id, item_id)
    REFERENCES ${DATABASE_NAME}.mail_item (mailbox_id, id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.appointment_dumpster (
  mailbox_id  INT UNSIGNED NOT NULL,
  uid         VARCHAR(255) NOT NULL,
  item_id     INT UNSIGNED NOT NULL,
  start_time  DATETIME NOT NULL,
  end_time    DATETIME,
  PRIMARY KEY (mailbox_id, uid),
  UNIQUE INDEX i_item_id (mailbox_id, item_id),
  CONSTRAINT fk_appointment_dumpster_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id),
  CONSTRAINT fk_appointment_dumpster_item_id FOREIGN KEY (mailbox_id, item_id)
    REFERENCES ${DATABASE_NAME}.mail_item_dumpster (mailbox_id, id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.tombstone (
  mailbox_id  INT UNSIGNED NOT NULL,
  sequence    INT UNSIGNED NOT NULL,
  date        INT UNSIGNED NOT NULL,
  type        TINYINT,
  ids         TEXT,
  INDEX i_sequence (mailbox_id, sequence),
  CONSTRAINT fk_tombstone_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id)
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.pop3_message (
  mailbox_id      INT UNSIGNED NOT NULL,
  data_source_id  CHAR(36) NOT NULL,
  uid             VARCHAR(255) BINARY NOT NULL,
  item_id         INT UNSIGNED NOT NULL,
  PRIMARY KEY (mailbox_id, item_id),
  UNIQUE INDEX i_uid_pop3_id (uid, data_source_id),
  CONSTRAINT fk_pop3_message_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id)
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.imap_folder (
  mailbox_id      INT UNSIGNED NOT NULL,
  item_id         INT UNSIGNED NOT NULL,
  data_source_id  CHAR(36) NOT NULL,
  local_path      VARCHAR(1000) NOT NULL,
  remote_path     VARCHAR(1000) NOT NULL,
  uid_validity    INT UNSIGNED,
  PRIMARY KEY (mailbox_id, item_id),
  UNIQUE INDEX i_local_path (local_path(200), data_source_id, mailbox_id),
  UNIQUE INDEX i_remote_path (remote_path(200), data_source_id, mailbox_id),
  CONSTRAINT fk_imap_folder_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.imap_message (
  mailbox_id      INT UNSIGNED NOT NULL,
  imap_folder_id  INT UNSIGNED NOT NULL,
  uid             BIGINT NOT NULL,
  item_id         INT UNSIGNED NOT NULL,
  flags           INT NOT NULL DEFAULT 0,
  PRIMARY KEY (mailbox_id, item_id),
  UNIQUE INDEX i_uid_imap_id (mailbox_id, imap_folder_id, uid),
  CONSTRAINT fk_imap_message_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id) ON DELETE CASCADE,
  CONSTRAINT fk_imap_message_imap_folder_id FOREIGN KEY (mailbox_id, imap_folder_id)
    REFERENCES ${DATABASE_NAME}.imap_folder (mailbox_id, item_id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.data_source_item (
  mailbox_id      INT UNSIGNED NOT NULL,
  data_source_id  CHAR(36) NOT NULL,
  item_id         INT UNSIGNED NOT NULL,
  folder_id       INT UNSIGNED NOT NULL DEFAULT 0,
  remote_id       VARCHAR(255) BINARY NOT NULL,
  metadata        MEDIUMTEXT,
  PRIMARY KEY (mailbox_id, item_id),
  UNIQUE INDEX i_remote_id (mailbox_id, data_source_id, remote_id),
  CONSTRAINT fk_data_source_item_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.purged_conversations (
  mailbox_id      INT UNSIGNED NOT NULL,
  data_source_id  CHAR(36) NOT NULL,
  item_id         INT UNSIGNED NOT NULL,
  hash            CHAR(28) BINARY NOT NULL,
  PRIMARY KEY (mailbox_id, data_source_id, hash),
  CONSTRAINT fk_purged_conversation_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.purged_messages (
  mailbox_id        INT UNSIGNED NOT NULL,
  data_source_id    CHAR(36) NOT NULL,
  item_id           INT UNSIGNED NOT NULL,
  parent_id         INT UNSIGNED,
  remote_id         VARCHAR(255) BINARY NOT NULL,
  remote_folder_id  VARCHAR(255) BINARY NOT NULL,
  purge_date        INT UNSIGNED,
  PRIMARY KEY (mailbox_id, data_source_id, item_id),
  CONSTRAINT fk_purged_message_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.event (
  mailbox_id  INT UNSIGNED NOT NULL,
  account_id  VARCHAR(36) NOT NULL,
  item_id     INT NOT NULL,
  folder_id   INT NOT NULL,
  op          TINYINT NOT NULL,
  ts          INT NOT NULL,
  version     INT,
  user_agent  VARCHAR(128),
  arg         VARCHAR(10240),
  CONSTRAINT fk_event_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE ${DATABASE_NAME}.watch (
  mailbox_id  INT UNSIGNED NOT NULL,
  target      VARCHAR(36) NOT NULL,
  item_id     INT NOT NULL,
  PRIMARY KEY (mailbox_id, target, item_id)
) ENGINE = InnoDB;
