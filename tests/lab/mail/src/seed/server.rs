//! Rows of the database `zimbra`: the mailbox row, and what is kept per mailbox outside its group.

use mysql::Value;
use mysql::prelude::Queryable;

use super::build::{Build, NOW};
use super::text;
use crate::Result;
use crate::bencode::{self, dict, encode};

/// Inserts the mailbox row that foreign keys refer to; its sums come at the end.
pub(super) fn mailbox_row(build: &mut Build<'_>) -> Result<()> {
    let spec = build.spec;
    build.conn.exec_drop(
        "INSERT INTO zimbra.mailbox (id, group_id, account_id, index_volume_id, tracking_sync, tracking_imap, \
         last_backup_at, comment, last_soap_access, new_messages, version, last_purge_at, itemcache_checkpoint) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 3, '2.7', ?, 1)",
        (
            spec.mailbox,
            spec.group,
            &spec.account_id,
            build.volumes.index,
            u32::from(spec.hurts) * 50,
            spec.hurts,
            spec.hurts.then_some(NOW),
            &spec.email,
            NOW,
            NOW - 3600,
        ),
    )?;
    Ok(())
}

/// How far behind a checkpoint is that was written `lag` numbers before the last one was given out. A server writes it at
/// each multiple of `step`, so it is never of an earlier one.
fn behind(last: u32, lag: u32, step: u32) -> u32 {
    last - lag.min(last % step)
}

/// Brings the mailbox row and `next_mailbox_id` up to date. In a mailbox that hurts the checkpoints lag
/// behind what is in use, as they do between two boundaries on a server.
pub(super) fn finish(build: &mut Build<'_>) -> Result<()> {
    let lag = u32::from(build.spec.hurts);
    build.conn.exec_drop(
        "UPDATE zimbra.mailbox SET item_id_checkpoint = ?, change_checkpoint = ?, contact_count = ?, \
         size_checkpoint = ? WHERE id = ?",
        (
            behind(build.made.max_item, 7 * lag, 20),
            behind(build.made.max_change, 40 * lag, 100),
            build.contacts,
            build.size,
            build.spec.mailbox,
        ),
    )?;
    build.conn.exec_drop(
        "UPDATE zimbra.current_volumes SET next_mailbox_id = GREATEST(next_mailbox_id, ? + 1)",
        (build.spec.mailbox,),
    )?;
    Ok(())
}

/// Fills the tables that a mailbox has in `zimbra`.
pub(super) fn fill(build: &mut Build<'_>) -> Result<()> {
    let subscribed = bencode::Value::List(vec!["INBOX".into(), "Übersicht".into()]);
    let imap = encode(&dict([("subs", subscribed), ("v", 10.into())]));
    build.server("mailbox_metadata", "section, metadata", &["imap".into(), imap.into()])?;
    if build.spec.hurts {
        mailbox_metadata(build)?;
        out_of_office(build)?;
        scheduled_task(build)?;
        mobile_devices(build)?;
        zmg_devices(build)?;
        volume_blobs(build)?;
    }
    for n in 0..build.spec.pending_acl_push {
        let date = u64::from(NOW) * 1000 + u64::from(n);
        build.server("pending_acl_push", "item_id, date", &[(n + 2).into(), date.into()])?;
    }
    Ok(())
}

fn mailbox_metadata(build: &mut Build<'_>) -> Result<()> {
    let own = section(&format!("({},257,'x'),({},", build.spec.mailbox, build.spec.mailbox));
    build.server("mailbox_metadata", "section, metadata", &["own id".into(), own.into()])?;
    build.server("mailbox_metadata", "section, metadata", &["null".into(), Value::NULL])?;
    build.server("mailbox_metadata", "section, metadata", &["empty".into(), "".into()])?;
    for (n, edge) in text::EDGES.iter().enumerate() {
        let row = [format!("eas:{n}").into(), section(edge).into()];
        build.server("mailbox_metadata", "section, metadata", &row)?;
    }
    Ok(())
}

/// A section of configuration that holds one text.
fn section(text: &str) -> String {
    encode(&dict([("text", text.into()), ("v", 10.into())]))
}

fn out_of_office(build: &mut Build<'_>) -> Result<()> {
    for (to, on) in [
        ("someone@elsewhere.test", "2024-03-31 02:30:00"),
        ("ünïcode@elsewhere.test", "1000-01-01 00:00:00"),
        ("zero@elsewhere.test", "0000-00-00 00:00:00"),
        ("", "9999-12-31 23:59:59"),
    ] {
        build.server("out_of_office", "sent_to, sent_on", &[to.into(), on.into()])?;
    }
    Ok(())
}

fn scheduled_task(build: &mut Build<'_>) -> Result<()> {
    let metadata = |fields: &[(&str, &str)]| {
        let mut all = dict([("v", 10.into())]);
        all.extend(fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())));
        encode(&all)
    };
    let reminder = [("calItemId", "257"), ("compNum", "0"), ("invId", "258"), ("nextInstStart", "1924992000000")];
    for (class, name, at, interval, metadata) in [
        (
            "alerts.CalItemEmailReminderTask",
            "emailReminderTask257",
            Some("2031-01-01 00:00:00"),
            None,
            metadata(&reminder),
        ),
        ("alerts.CalItemEmailReminderTask", "emailReminderTask259", None, Some(u32::MAX), metadata(&reminder)),
        (
            "AutoSendDraftTask",
            "autoSendDraftTask258",
            Some("0000-00-00 00:00:00"),
            Some(0),
            metadata(&[("draftId", "258")]),
        ),
        (
            "acl.ExpireGrantsTask",
            "expireGrantsTask16",
            Some("2038-01-19 03:14:07"),
            None,
            metadata(&[("itemId", "16")]),
        ),
    ] {
        build.server(
            "scheduled_task",
            "class_name, name, exec_time, interval_millis, metadata",
            &[
                format!("com.zimbra.cs.mailbox.{class}").into(),
                name.into(),
                at.into(),
                interval.into(),
                metadata.into(),
            ],
        )?;
    }
    Ok(())
}

fn mobile_devices(build: &mut Build<'_>) -> Result<()> {
    for (device, used, updated) in [
        ("ApplDN6", Some("2024-02-29"), Some("2024-03-31 02:30:00")),
        ("androidc1", Some("0000-00-00"), Some("1970-01-01 00:00:01")),
        ("désordre", None, Some("2038-01-19 03:14:07")),
        ("zero", None, Some("0000-00-00 00:00:00")),
    ] {
        build.server(
            "mobile_devices",
            "device_id, device_type, user_agent, protocol_version, provisionable, status, policy_key, \
             first_req_received, policy_values, last_used_date, friendly_name, unapproved_appl_list, \
             last_updated_by, update_time",
            &[
                device.into(),
                "iPhone".into(),
                "Apple-iPhone/2102.1".into(),
                "14.1".into(),
                1.into(),
                255.into(),
                u32::MAX.into(),
                NOW.into(),
                "<p a=\"1\"/>".into(),
                used.into(),
                "Zoë's 電話".into(),
                Value::NULL,
                "User".into(),
                updated.into(),
            ],
        )?;
    }
    Ok(())
}

fn zmg_devices(build: &mut Build<'_>) -> Result<()> {
    let registration = format!("reg-{}-{}", build.spec.mailbox, build.spec.seed);
    build.server(
        "zmg_devices",
        "app_id, reg_id, push_provider, os_name, os_version, max_payload_size",
        &["app".into(), registration.into(), "gcm".into(), "Android".into(), "14".into(), 4096.into()],
    )
}

/// Rows of the deduplication's own bookkeeping, which belongs to the server and must stay there.
fn volume_blobs(build: &mut Build<'_>) -> Result<()> {
    for item in 0..5u32 {
        build.server(
            "volume_blobs",
            "volume_id, item_id, revision, blob_digest, processed",
            &[
                build.volumes.message.into(),
                (super::FIRST_ITEM + item).into(),
                (101 + item).into(),
                crate::volume::digest(&[]).into(),
                1.into(),
            ],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::behind;

    #[test]
    fn no_number_is_given_out_twice_by_a_server_that_rounds_the_checkpoint_up() {
        for last in 256..700 {
            let checkpoint = behind(last, 7, 20);
            assert!(checkpoint <= last && checkpoint / 20 == last / 20, "{checkpoint} for {last}");
        }
        assert_eq!((behind(1127, 7, 20), behind(1120, 7, 20), behind(1053, 40, 100)), (1120, 1120, 1013));
    }
}
