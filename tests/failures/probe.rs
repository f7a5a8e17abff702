//! What a move depends on beside what it copies, broken before it begins: it is refused, and says what to do.

use crate::site::{Site, site};

/// Refused while something is broken, and fine again after it was mended.
fn refused_while(site: &Site, (host, broken, mended): (&str, &str, &str), texts: &[&str]) {
    let mailbox = site.mailbox();
    let number = mailbox.number.to_string();
    let (broken, mended) = (broken.replace("NUMBER", &number), mended.replace("NUMBER", &number));
    site.shell(host, &broken);
    let ended = site.move_it(&mailbox);
    site.shell(host, &mended);
    let texts: Vec<String> = texts.iter().map(|text| text.replace("NUMBER", &number)).collect();
    ended.assert(3, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    site.assert_rolled_back(&mailbox);
}

#[test]
fn rsync_that_does_not_start() {
    let site = site();
    let broken = ("store2", "mount --bind /dev/null /usr/bin/rsync", "umount /usr/bin/rsync");
    refused_while(&site, broken, &["files cannot get from store1.lab.test to store2.lab.test"]);
}

#[test]
fn volume_that_is_not_zimbras() {
    let site = site();
    for dir in ["/opt/zimbra/store", "/opt/zimbra/index"] {
        let (broken, mended) = (format!("chown root: {dir}"), format!("chown zimbra: {dir}"));
        let texts = ["zimbra cannot write to DIR of volume", "`chown zimbra: DIR && chmod u+rwx DIR` there"];
        let texts = texts.map(|text| text.replace("DIR", dir));
        refused_while(&site, ("store2", &broken, &mended), &texts.each_ref().map(String::as_str));
    }
}

#[test]
fn volume_that_is_not_mounted() {
    let site = site();
    let broken = ("store2", "mv /opt/zimbra/store /opt/zimbra/away", "mv /opt/zimbra/away /opt/zimbra/store");
    let command = "`install -d -o zimbra -g zimbra /opt/zimbra/store` there";
    refused_while(&site, broken, &["/opt/zimbra/store of volume 1 is not there: mount it", command]);
}

#[test]
fn blobs_that_zimbra_cannot_read() {
    let site = site();
    let dir = "/opt/zimbra/store/0/NUMBER/msg";
    let file = format!("$(find {dir} -type f | sort | head -n 1)");
    let cases = [
        (
            format!("chown root: {file}; chmod 600 {file}"),
            format!("chown zimbra: {file}"),
            format!("cannot read {dir}/0/"),
        ),
        (
            format!("chown root: {dir}/0; chmod 700 {dir}/0"),
            format!("chown zimbra: {dir}/0"),
            format!("cannot read {dir}/0: "),
        ),
        (
            format!("chown root: {dir}/..; chmod 700 {dir}/.."),
            format!("chown zimbra: {dir}/.."),
            "0/NUMBER: ".to_owned(),
        ),
    ];
    for (broken, mended, text) in &cases {
        refused_while(&site, ("store1", broken, mended), &[text, "chmod u+rX", "` there"]);
    }
}

#[test]
fn index_that_is_not_lucenes() {
    let site = site();
    let file = "/opt/zimbra/conf/localconfig.xml";
    let key = "<key name=\"zimbra_class_index_store_factory\"><value>com.zimbra.cs.index.elasticsearch.ElasticSearchIndex$Factory</value></key>";
    let broken =
        format!("cp -p {file} {file}.was; sed -i 's|</localconfig>|{key}</localconfig>|' {file}; chown zimbra: {file}");
    let mended = format!("mv {file}.was {file}");
    for store in ["store1", "store2"] {
        let text = format!("{store}.lab.test keeps search indexes by com.zimbra.cs.index.elasticsearch");
        refused_while(&site, (store, &broken, &mended), &[&text, "not files of Lucene"]);
    }
}

#[test]
fn tags_that_would_be_one() {
    let site = site();
    let mailbox = site.mailbox();
    let group = (mailbox.number - 1) % 100 + 1;
    let table = format!("mboxgroup{group}.tag");
    site.sql("store1", &format!("ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"));
    for (id, name) in [(991, "Errands"), (992, "errands")] {
        site.sql(
            "store1",
            &format!(
                "INSERT INTO {table} (mailbox_id, id, name, sequence) VALUES ({}, {id}, '{name}', 1)",
                mailbox.number
            ),
        );
    }
    let ended = site.move_it(&mailbox);
    let moved = {
        site.sql(
            "store1",
            &format!("UPDATE {table} SET name = 'Play' WHERE mailbox_id = {} AND id = 992", mailbox.number),
        );
        let mailbox = site.again(&mailbox);
        site.move_it(&mailbox)
    };
    site.sql("store1", &format!("ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci"));
    ended.assert(
        3,
        &["table tag: 'Errands' and 'errands' would be one in the destination's key i_tag_name", "general_ci"],
    );
    moved.assert(0, &[]);
}

#[test]
fn index_that_is_being_built_anew_is_told() {
    let site = site();
    let mailbox = site.mailbox();
    // mailboxd knows of no mailbox that was put down beside it.
    site.tell("store1", "restart");
    site.rest("store1");
    site.tell("store1", &format!("reindex {} on", mailbox.id));
    let words = ["run", "audit", "--email", &mailbox.email, "--dest", "store2.lab.test"];
    let told = site.zlm("store1", &words);
    let moved = site.move_it(&mailbox);
    told.assert(0, &[]);
    moved.assert(
        0,
        &["its index is being built anew on store1.lab.test", &format!("zmprov rim {} start", mailbox.email)],
    );
}
