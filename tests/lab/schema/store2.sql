-- What only store2 has: its secondary volume is number 4, where store1's is number 3.

INSERT INTO zimbra.volume
  (id, type, name, path, file_bits, file_group_bits, mailbox_bits, mailbox_group_bits, compress_blobs, compression_threshold)
VALUES
  (1, 1, 'message1', '/opt/zimbra/store', 12, 8, 12, 8, 0, 4096),
  (2, 10, 'index1', '/opt/zimbra/index', 12, 8, 12, 8, 0, 4096),
  (4, 2, 'hsm2', '/opt/zimbra/hsm2', 12, 8, 12, 8, 0, 4096);

INSERT INTO zimbra.current_volumes
  (message_volume_id, secondary_message_volume_id, index_volume_id, next_mailbox_id)
VALUES (1, 4, 2, 101);
