//! Going back to the copy that a store kept when a mailbox was moved away: it takes the place of a staged one. Nothing
//! is copied; that both copies are still the same is the proof that nothing was written since.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};

use super::blobs::Checked;
use super::freeze::Freeze;
use super::look::Survey;
use super::stage::{Move, unchanged, unmapped};
use super::undo::to_undo;
use crate::blobs::{self, Listing, Tree};
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use crate::gate::{Operation, Undo, Watch};
use crate::rows;
use crate::run::own;
use crate::site::{Site, Store};
use crate::store::{self, Checkpoints, Claims, MailboxRow, Staged};
use crate::zimbra::blob::{BlobName, FileName};
use crate::zimbra::ids::Host;
use crate::zimbra::volume::{Volume, locator};

/// Columns that are each copy's own, and are not compared: a `locator` is the number of a volume of its store, and
/// `index_id` says whether an item is in the index that lies beside it. A store indexes waiting items whenever it finds
/// the time; the other one does it again.
pub(super) const OWN_COLUMNS: &[&str] = &["locator", "index_id"];

/// How many blobs a message names.
const SHOWN: usize = 5;

/// The copy of a mailbox that its store kept when the mailbox was moved away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Its row.
    pub row: MailboxRow,
    /// The store's number of mailbox groups.
    pub groups: u32,
}

impl Kept {
    /// The copy as the place of a move. It carries the account's own id already.
    pub(super) fn place(&self) -> Staged {
        Staged {
            id: self.row.id,
            group_id: self.row.group_id,
            database: self.row.group(),
            placeholder: self.row.account_id.clone(),
            created_group: false,
            groups: self.groups,
        }
    }
}

/// Takes the kept copy as the mailbox's place.
pub(super) struct Recall {
    pub(super) site: Arc<Site>,
    pub(super) dest: Arc<Store>,
    pub(super) survey: Survey,
    pub(super) kept: Kept,
}

impl Operation for Recall {
    type Output = Staged;

    fn name(&self) -> &'static str {
        "stage"
    }

    fn describe(&self) -> String {
        let Survey { account, dest, .. } = &self.survey;
        format!("mailbox {}, the copy of {} that {dest} kept", self.kept.row.id, account.address)
    }

    fn pretend(&self) -> Result<Staged> {
        Ok(self.kept.place())
    }

    fn apply(&self, _: &Watch<'_>) -> Result<Staged> {
        unchanged(&self.site, &self.survey)?;
        let dest = &self.dest;
        let now = store::mailbox_by_account(&mut *dest.session()?, self.survey.account.id.as_str())?;
        // It was looked at before it was claimed.
        if now.is_some_and(|row| row.id == self.kept.row.id && store::counters(&row) == store::counters(&self.kept.row))
        {
            return Ok(self.kept.place());
        }
        let message = format!("mailbox {} on {}: changed since it was looked at", self.kept.row.id, dest.name());
        Err(Error::new(Kind::Refused, message).hint("start it again"))
    }
}

/// The blobs that rows of a mailbox name, and their volumes.
pub(super) type Named = BTreeMap<BlobName, u8>;

fn named(store: &Store, row: &MailboxRow) -> Result<Named> {
    let mut named = Named::new();
    rows::named_blobs(&mut *store.session()?, &row.group(), row.id, &mut |name, place| {
        named.insert(name, locator(place).map_err(|why| Error::new(Kind::Data, why))?);
        Ok(())
    })?;
    Ok(named)
}

/// The blobs of both copies, file by file.
pub(super) struct Matched {
    /// What the kept copy's rows name.
    named: Named,
    /// Files that both have, by their volumes: where the mailbox is, and where the copy was kept.
    both: BTreeMap<(u8, u8), Vec<FileName>>,
    /// What keeps the copy from being whole, in words.
    pub(super) lost: Vec<String>,
    /// Blobs that neither has.
    missing: u64,
    /// What the kept files weigh.
    pub(super) bytes: u64,
}

impl Matched {
    /// Reads what rows name and what there is on both stores.
    pub(super) fn read(
        (source, here): (&Store, &MailboxRow),
        (dest, there): (&Store, &MailboxRow),
        (from, to): (&[Volume], &[Volume]),
        cancel: &Cancel,
    ) -> Result<Self> {
        let (here_named, named) = (named(source, here)?, named(dest, there)?);
        let lists = Lists::read(source, from, here.id, &here_named, cancel)?;
        let kept = Lists::read(dest, to, there.id, &named, cancel)?;
        let mut matched = Self { named, both: BTreeMap::new(), lost: Vec::new(), missing: 0, bytes: 0 };
        for (name, volume) in &here_named {
            let Some(kept_on) = matched.named.get(name).copied() else {
                matched.lost.push(format!("no row of {} names blob {name}", dest.name()));
                continue;
            };
            match (lists.find(*volume, *name), kept.find(kept_on, *name)) {
                (Some(_), None) => {
                    matched.lost.push(format!("blob {name} of volume {kept_on} is gone from {}", dest.name()));
                }
                (Some((file, _)), Some((same, bytes))) if file == same => {
                    matched.bytes += bytes;
                    matched.both.entry((*volume, kept_on)).or_default().push(file);
                }
                (Some(_), Some(_)) => matched.lost.push(format!("blob {name}: its files have different names")),
                // The copy has what the other store has lost.
                (None, Some((_, bytes))) => matched.bytes += bytes,
                (None, None) => matched.missing += 1,
            }
        }
        Ok(matched)
    }

    /// How many blobs the kept copy's rows name.
    pub(super) fn count(&self) -> u64 {
        self.named.len() as u64
    }
}

/// The files of a mailbox, by volume.
struct Lists(BTreeMap<u8, Listing>);

impl Lists {
    fn read(store: &Store, volumes: &[Volume], mailbox: u32, named: &Named, cancel: &Cancel) -> Result<Self> {
        let mut lists = BTreeMap::new();
        for volume in named.values() {
            if let std::collections::btree_map::Entry::Vacant(slot) = lists.entry(*volume) {
                slot.insert(tree(store, volumes, *volume, mailbox)?.list(cancel)?);
            }
        }
        Ok(Self(lists))
    }

    fn find(&self, volume: u8, name: BlobName) -> Option<(FileName, u64)> {
        self.0.get(&volume)?.find(name).map(|(_, file)| (file.name, file.bytes))
    }
}

/// A mailbox's directory on a volume of a store.
pub(super) fn tree(store: &Store, volumes: &[Volume], id: u8, mailbox: u32) -> Result<Tree> {
    let volume = volumes.iter().find(|volume| volume.id == id).cloned().ok_or_else(|| unmapped(id))?;
    Ok(Tree { shell: store.shell().clone(), volume, mailbox })
}

/// Compares every blob of both copies by its bytes, while the user works. Blobs never change under one name.
///
/// Fails with [`Kind::Refused`] when the kept copy has lost one or has other bytes.
pub(super) fn check_blobs(site: &Site, mv: &Move, watch: &Watch<'_>) -> Result<Checked> {
    let (survey, cancel) = (&mv.survey, watch.cancel());
    if site.account(&survey.account.id)?.mail_host.as_ref() == Some(&survey.dest) {
        // A run that is taken up after its switch: the copy is the user's again, and no proof is to come.
        return Ok(Checked::default());
    }
    let here = survey.source_row()?;
    let there = &kept(mv)?.row;
    let volumes = (survey.source_volumes.as_slice(), survey.dest_volumes.as_slice());
    let mut matched = Matched::read((&mv.source, here), (&mv.dest, there), volumes, cancel)?;
    let mut checked = Checked { named: matched.count(), equal: 0, to_copy: 0, missing: matched.missing };
    for ((from, to), files) in &matched.both {
        let source = tree(&mv.source, volumes.0, *from, here.id)?;
        let dest = tree(&mv.dest, volumes.1, *to, there.id)?;
        let compared = blobs::compare(&source, &dest, files, cancel)?;
        checked.equal += compared.equal.len() as u64;
        matched.lost.extend(compared.unequal.iter().map(|file| format!("blob {file}: its bytes differ")));
        watch.progress("blobs", checked.equal, Some(checked.named));
    }
    if !matched.lost.is_empty() {
        let message =
            format!("mailbox {} on {}: is not as it was left: {}", there.id, survey.dest, some_of(&matched.lost));
        return Err(Error::new(Kind::Refused, message).hint(instead(survey)));
    }
    *mv.kept_blobs.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(matched.named));
    Ok(checked)
}

/// What differs between both copies under a freeze, apart from rows of items: the mailbox's own row, its counters, and
/// whether blobs are those that were compared.
pub(super) fn differences(freeze: &Freeze) -> Result<Vec<String>> {
    let mv = &freeze.mv;
    let id = mv.survey.account.id.as_str();
    let here = store::mailbox_by_account(&mut *mv.source.session()?, id)?;
    let there = store::mailbox_by_account(&mut *mv.dest.session()?, id)?;
    let (Some(here), Some(there)) = (here, there) else {
        return Ok(vec![format!("mailbox of account {id}: one of both rows is gone")]);
    };
    let mut differences = store::row_differences(&there, &here);
    differences.extend(store::used_since(&mut *mv.dest.session()?, &mv.staged, &there, &here)?);
    let checked = mv.kept_blobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match checked {
        Some(checked) if *checked == named(&mv.dest, &there)? => {}
        Some(_) => differences.push(format!("rows of {} name other blobs than those compared", mv.survey.dest)),
        None => differences.push("blobs were not compared; call check_blobs(mv) before the freeze".to_owned()),
    }
    Ok(differences)
}

/// Lets the kept copy count on from where the other one is: numbers that were given to clients there, if only as the
/// end of a step, are not given out again.
pub(super) struct Recount {
    pub(super) mv: Arc<Move>,
}

/// What sets counters back.
#[derive(Serialize, Deserialize)]
pub(super) struct CountBack {
    store: Host,
    mailbox: u32,
    account_id: String,
    from: Checkpoints,
    to: Checkpoints,
}

impl Recount {
    /// What the counters are and what they become.
    fn counters(&self) -> Result<(Checkpoints, Checkpoints)> {
        let mv = &self.mv;
        let (own, there) = (store::counters(&kept(mv)?.row), store::counters(mv.survey.source_row()?));
        Ok((own, Checkpoints { item: own.item.max(there.item), change: own.change.max(there.change) }))
    }
}

impl Operation for Recount {
    type Output = ();

    fn name(&self) -> &'static str {
        "switch_to"
    }

    fn describe(&self) -> String {
        let mv = &self.mv;
        format!("mailbox {} on {} counts on from where {} is", mv.staged.id, mv.survey.dest, mv.survey.source)
    }

    fn details(&self) -> Result<Vec<String>> {
        let (_, to) = self.counters()?;
        Ok(vec![format!(
            "UPDATE zimbra.mailbox SET item_id_checkpoint = {}, change_checkpoint = {} WHERE id = {}",
            to.item, to.change, self.mv.staged.id
        )])
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn undo(&self) -> Result<Option<Undo>> {
        let (from, to) = self.counters()?;
        let (store, mailbox) = (self.mv.survey.dest.clone(), self.mv.staged.id);
        let what = format!("mailbox {mailbox} on {store}: its counters as they were left");
        let account_id = self.mv.survey.account.id.to_string();
        to_undo("count_back", &CountBack { store, mailbox, account_id, from, to }, what).map(Some)
    }

    fn apply(&self, _: &Watch<'_>) -> Result<()> {
        let (from, to) = self.counters()?;
        let id = self.mv.survey.account.id.as_str();
        store::recount(&mut *self.mv.dest.session()?, self.mv.staged.id, id, from, to)
    }
}

/// Sets the counters back, if they were changed.
pub(super) fn count_back(site: &Site, claims: &Claims, back: &CountBack) -> Result<()> {
    let store = own(claims, site.store(back.store.as_str())?);
    store::recount(&mut *store.session()?, back.mailbox, &back.account_id, back.to, back.from)
}

/// The kept copy that a move goes back to.
fn kept(mv: &Move) -> Result<&Kept> {
    mv.survey.kept.as_ref().ok_or_else(|| {
        Error::new(Kind::Usage, format!("mailbox {}: {} kept no copy of it", mv.source_id(), mv.survey.dest))
    })
}

/// The command that brings the mailbox to the same store by copying it, and what stands in its way until then.
pub(super) fn instead(survey: &Survey) -> String {
    let Survey { account, dest, .. } = survey;
    format!(
        "zlm run scripts/move.rhai --email {} --dest {dest}, once the copy that {dest} kept is removed and mailboxd was restarted there",
        account.address
    )
}

/// The first of many reasons.
pub(super) fn some_of(all: &[String]) -> String {
    let more = all.len().saturating_sub(SHOWN);
    let shown: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{more}", shown.join("; "))
}
