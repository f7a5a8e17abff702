//! What a move depends on beside what it copies, tried before anybody is frozen: the way that files take from store to store,
//! blobs that can be read, volumes that can be written to, and a mailboxd that leaves the index alone.

use std::collections::BTreeSet;

use super::look::Survey;
use super::rsync::transfer_into_copy;
use crate::blobs::{Tree, Writable, writable};
use crate::clients::rsync::Place;
use crate::error::{Kind, Result};
use crate::site::{Site, Store};
use crate::zimbra::volume::Kind as VolumeKind;

/// Every reason why files of the mailbox could not be copied, from the source's volumes `used` to those they become.
pub(super) fn files(
    site: &Site,
    survey: &Survey,
    (source, dest): (&Store, &Store),
    mailbox: u32,
    used: &BTreeSet<u8>,
) -> Result<Vec<String>> {
    let way = format!("rsync from {}", source.name());
    let mut problems = dest.checked(&way, || greeting(site, source, dest))?;
    let targets: BTreeSet<u8> = used.iter().filter_map(|volume| survey.mapping.get(*volume)).collect();
    for volume in survey.dest_volumes.iter().filter(|volume| targets.contains(&volume.id)) {
        problems.extend(dest.checked(&format!("volume {}", volume.id), || {
            let (user, name, path) = (site.config().zimbra_user(), dest.name(), &volume.path);
            Ok(match writable(dest.shell(), volume, site.cancel())? {
                Writable::Yes => None,
                Writable::Missing => Some(format!(
                    "{name}: {path} of volume {} is not there: mount it, or `install -d -o {user} -g {user} {path}` there",
                    volume.id
                )),
                Writable::No(barred) => Some(format!(
                    "{name}: {user} cannot write to {barred} of volume {}: `chown {user}: {barred} && chmod u+rwx {barred}` there",
                    volume.id
                )),
            }
            .into_iter()
            .collect())
        })?);
    }
    for volume in survey.source_volumes.iter().filter(|volume| used.contains(&volume.id)) {
        let tree = Tree { shell: source.shell().clone(), volume: volume.clone(), mailbox };
        let dir = match volume.kind {
            VolumeKind::Index => volume.index_dir(mailbox),
            _ => volume.message_dir(mailbox),
        };
        let barred = tree.unreadable(&dir, site.cancel())?;
        if let Some(first) = barred.first() {
            let user = site.config().zimbra_user();
            problems.push(format!(
                "{}: {user} cannot read {}: `chown {user}: {first} && chmod u+rX {first}` there, for each",
                source.name(),
                barred.join(", ")
            ));
        }
    }
    Ok(problems)
}

/// Why rsync does not get from one store to the other.
fn greeting(site: &Site, source: &Store, dest: &Store) -> Result<Vec<String>> {
    let place = |store: &Store| Place {
        rsync: store.rsync().to_owned(),
        ..Place::new(store.shell().clone(), store.home().to_string_lossy())
    };
    let mut transfer = transfer_into_copy(place(source), place(dest))?;
    transfer.gentle = site.config().file.rsync.gentle.unwrap_or(true);
    let error = match transfer.greet(site.cancel()) {
        Ok(()) => return Ok(Vec::new()),
        Err(error) if error.kind() == Kind::Cancelled => return Err(error),
        Err(error) => error,
    };
    let key = transfer.route.as_ref().and_then(|route| route.identity.as_ref());
    let key = key.map(|key| {
        let (from, key) = (source.name(), key.display());
        format!("{from} logs in there with its {key}, which must be good for rsync; `store_key` of [ssh] in zlm.toml names another")
    });
    let advice =
        key.or_else(|| error.advice().map(str::to_owned)).map_or_else(String::new, |advice| format!(": {advice}"));
    Ok(vec![format!("files cannot get from {} to {}: {error}{advice}", source.name(), dest.name())])
}

/// Why a store's indexes cannot be copied or taken over, if they are not files of Lucene.
pub(super) fn index_class(store: &Store) -> Option<String> {
    let class = store.local_config().get("zimbra_class_index_store_factory").unwrap_or_default();
    let is_lucene = class.is_empty() || class.contains("LuceneIndex");
    (!is_lucene).then(|| format!("{} keeps search indexes by {class}, which is not files of Lucene", store.name()))
}

/// What a re-index of the mailbox that runs at its home means for a freeze. Who does not answer is found out elsewhere.
pub(super) fn reindexing(site: &Site, survey: &Survey) -> Result<Option<String>> {
    let (home, account) = (&survey.source, &survey.account);
    match site.admin()?.is_reindexing(home, &account.id) {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some(format!(
            "its index is being built anew on {home}, and a freeze ends that: wait until `zmprov rim {0} status` says idle, or run \
             `zmprov rim {0} start` afterwards",
            account.address
        ))),
        Err(error) if error.kind() == Kind::Cancelled => Err(error),
        Err(error) => {
            log::debug!("{error}");
            Ok(None)
        }
    }
}
