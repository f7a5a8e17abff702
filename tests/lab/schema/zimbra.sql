-- The database of a store: its volumes, its mailboxes, and what is kept for each mailbox outside its group.
-- Columns written BINARY compare byte by byte (utf8_bin); all others ignore case (utf8_general_ci).

CREATE DATABASE zimbra DEFAULT CHARACTER SET utf8;

CREATE TABLE zimbra.volume (
  id                     TINYINT UNSIGNED NOT NULL AUTO_INCREMENT,
  type                   TINYINT NOT NULL,
  name                   VARCHAR(255) NOT NULL,
  path                   TEXT NOT NULL,
  file_bits              SMALLINT NOT NULL,
  file_group_bits        SMALLINT NOT NULL,
  mailbox_bits           SMALLINT NOT NULL,
  mailbox_group_bits     SMALLINT NOT NULL,
  compress_blobs         BOOLEAN NOT NULL,
  compression_threshold  BIGINT NOT NULL,
  metadata               MEDIUMTEXT,
  store_type             TINYINT(1) NOT NULL DEFAULT 1,
  store_manager_class    VARCHAR(255) DEFAULT 'com.zimbra.cs.store.file.FileBlobStore',
  PRIMARY KEY (id),
  UNIQUE INDEX i_name (name),
  UNIQUE INDEX i_path (path(255))
) ENGINE = InnoDB;

CREATE TABLE zimbra.current_volumes (
  message_volume_id            TINYINT UNSIGNED NOT NULL,
  secondary_message_volume_id  TINYINT UNSIGNED,
  index_volume_id              TINYINT UNSIGNED NOT NULL,
  next_mailbox_id              INT UNSIGNED NOT NULL,
  INDEX i_message_volume_id (message_volume_id),
  INDEX i_secondary_message_volume_id (secondary_message_volume_id),
  INDEX i_index_volume_id (index_volume_id),
  CONSTRAINT fk_current_volumes_message_volume_id FOREIGN KEY (message_volume_id)
    REFERENCES zimbra.volume (id),
  CONSTRAINT fk_current_volumes_secondary_message_volume_id FOREIGN KEY (secondary_message_volume_id)
    REFERENCES zimbra.volume (id),
  CONSTRAINT fk_current_volumes_index_volume_id FOREIGN KEY (index_volume_id)
    REFERENCES zimbra.volume (id)
) ENGINE = InnoDB;

CREATE TABLE zimbra.volume_blobs (
  id           BIGINT NOT NULL AUTO_INCREMENT,
  volume_id    TINYINT NOT NULL,
  mailbox_id   INT NOT NULL,
  item_id      INT NOT NULL,
  revision     INT NOT NULL,
  blob_digest  VARCHAR(44),
  processed    BOOLEAN DEFAULT FALSE,
  PRIMARY KEY (id),
  INDEX i_blob_digest (blob_digest),
  UNIQUE INDEX uc_blobinfo (volume_id, mailbox_id, item_id, revision)
);

CREATE TABLE zimbra.mailbox (
  id                    INT UNSIGNED NOT NULL,
  group_id              INT UNSIGNED NOT NULL,
  account_id            VARCHAR(127) NOT NULL,
  index_volume_id       TINYINT UNSIGNED NOT NULL,
  item_id_checkpoint    INT UNSIGNED NOT NULL DEFAULT 0,
  contact_count         INT UNSIGNED DEFAULT 0,
  size_checkpoint       BIGINT UNSIGNED NOT NULL DEFAULT 0,
  change_checkpoint     INT UNSIGNED NOT NULL DEFAULT 0,
  tracking_sync         INT UNSIGNED NOT NULL DEFAULT 0,
  tracking_imap         BOOLEAN NOT NULL DEFAULT 0,
  last_backup_at        INT UNSIGNED,
  comment               VARCHAR(255),
  last_soap_access      INT UNSIGNED NOT NULL DEFAULT 0,
  new_messages          INT UNSIGNED NOT NULL DEFAULT 0,
  idx_deferred_count    INT NOT NULL DEFAULT 0,
  highest_indexed       VARCHAR(21),
  version               VARCHAR(16),
  last_purge_at         INT UNSIGNED NOT NULL DEFAULT 0,
  itemcache_checkpoint  INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (id),
  UNIQUE INDEX i_account_id (account_id),
  INDEX i_index_volume_id (index_volume_id),
  INDEX i_last_backup_at (last_backup_at, id),
  CONSTRAINT fk_mailbox_index_volume_id FOREIGN KEY (index_volume_id)
    REFERENCES zimbra.volume (id)
) ENGINE = InnoDB;

CREATE TABLE zimbra.deleted_account (
  email       VARCHAR(255) NOT NULL,
  account_id  VARCHAR(127) NOT NULL,
  mailbox_id  INT UNSIGNED NOT NULL,
  deleted_at  INT UNSIGNED NOT NULL,
  PRIMARY KEY (email)
) ENGINE = InnoDB;

CREATE TABLE zimbra.mailbox_metadata (
  mailbox_id  INT UNSIGNED NOT NULL,
  section     VARCHAR(64) NOT NULL,
  metadata    MEDIUMTEXT,
  PRIMARY KEY (mailbox_id, section),
  CONSTRAINT fk_metadata_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE zimbra.out_of_office (
  mailbox_id  INT UNSIGNED NOT NULL,
  sent_to     VARCHAR(255) NOT NULL,
  sent_on     DATETIME NOT NULL,
  PRIMARY KEY (mailbox_id, sent_to),
  INDEX i_sent_on (sent_on),
  CONSTRAINT fk_out_of_office_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE zimbra.config (
  name         VARCHAR(255) NOT NULL,
  value        TEXT,
  description  TEXT,
  modified     TIMESTAMP,
  PRIMARY KEY (name)
) ENGINE = InnoDB;

CREATE TABLE zimbra.table_maintenance (
  database_name       VARCHAR(64) NOT NULL,
  table_name          VARCHAR(64) NOT NULL,
  maintenance_date    DATETIME NOT NULL,
  last_optimize_date  DATETIME,
  num_rows            INT UNSIGNED NOT NULL,
  PRIMARY KEY (table_name, database_name)
) ENGINE = InnoDB;

CREATE TABLE zimbra.service_status (
  server   VARCHAR(255) NOT NULL,
  service  VARCHAR(255) NOT NULL,
  time     DATETIME,
  status   BOOLEAN,
  UNIQUE INDEX i_server_service (server(100), service(100))
) ENGINE = MyISAM;

CREATE TABLE zimbra.scheduled_task (
  class_name       VARCHAR(255) BINARY NOT NULL,
  name             VARCHAR(255) NOT NULL,
  mailbox_id       INT UNSIGNED NOT NULL,
  exec_time        DATETIME,
  interval_millis  INT UNSIGNED,
  metadata         MEDIUMTEXT,
  PRIMARY KEY (name, mailbox_id, class_name),
  INDEX i_mailbox_id (mailbox_id),
  CONSTRAINT fk_st_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE zimbra.mobile_devices (
  mailbox_id            INT UNSIGNED NOT NULL,
  device_id             VARCHAR(64) NOT NULL,
  device_type           VARCHAR(64) NOT NULL,
  user_agent            VARCHAR(64),
  protocol_version      VARCHAR(64),
  provisionable         BOOLEAN NOT NULL DEFAULT 0,
  status                TINYINT UNSIGNED NOT NULL DEFAULT 0,
  policy_key            INT UNSIGNED,
  recovery_password     VARCHAR(64),
  first_req_received    INT UNSIGNED NOT NULL,
  last_policy_update    INT UNSIGNED,
  remote_wipe_req       INT UNSIGNED,
  remote_wipe_ack       INT UNSIGNED,
  policy_values         VARCHAR(512),
  last_used_date        DATE,
  deleted_by_user       BOOLEAN NOT NULL DEFAULT 0,
  model                 VARCHAR(64),
  imei                  VARCHAR(64),
  friendly_name         VARCHAR(512),
  os                    VARCHAR(64),
  os_language           VARCHAR(64),
  phone_number          VARCHAR(64),
  unapproved_appl_list  TEXT,
  approved_appl_list    TEXT,
  mobile_operator       VARCHAR(512),
  last_updated_by       ENUM('Admin','User') DEFAULT 'Admin',
  update_time           TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (mailbox_id, device_id),
  INDEX i_last_used_date (last_used_date),
  CONSTRAINT fk_mobile_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE zimbra.pending_acl_push (
  mailbox_id  INT UNSIGNED NOT NULL,
  item_id     INT UNSIGNED NOT NULL,
  date        BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (mailbox_id, item_id, date),
  INDEX i_date (date),
  CONSTRAINT fk_pending_acl_push_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id) ON DELETE CASCADE
) ENGINE = InnoDB;

CREATE TABLE zimbra.current_sessions (
  id         INT UNSIGNED NOT NULL,
  server_id  VARCHAR(127) NOT NULL,
  PRIMARY KEY (id, server_id)
) ENGINE = InnoDB;

CREATE TABLE zimbra.zmg_devices (
  mailbox_id        INT UNSIGNED NOT NULL,
  app_id            VARCHAR(64) NOT NULL,
  reg_id            VARCHAR(255) NOT NULL,
  push_provider     VARCHAR(8) NOT NULL,
  os_name           VARCHAR(16),
  os_version        VARCHAR(8),
  max_payload_size  INT UNSIGNED,
  PRIMARY KEY (mailbox_id, app_id),
  UNIQUE INDEX uk_zmg_reg_id (reg_id),
  INDEX i_mailbox_id (mailbox_id),
  INDEX i_reg_id (reg_id),
  CONSTRAINT fk_zmg_mailbox_id FOREIGN KEY (mailbox_id)
    REFERENCES zimbra.mailbox (id) ON DELETE CASCADE
) ENGINE = InnoDB;

INSERT INTO zimbra.config (name, value, description) VALUES
  ('db.version', '118', 'the version of this schema'),
  ('index.version', '2', 'the version of the search index');
