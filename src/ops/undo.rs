//! The operations that undo others, by their names in the data that was kept.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{freeze, kept, soap_modify, stage, switch};
use crate::error::{Context, Error, Kind, Result};
use crate::gate::Undo;
use crate::run::{Run, own};
use crate::site::Site;

/// Undo data for the operation `operation` with `arguments`.
pub(super) fn to_undo(operation: &str, arguments: &impl Serialize, what: String) -> Result<Undo> {
    let arguments =
        serde_json::to_value(arguments).context(Kind::Io, || format!("{operation}: keeping how to undo it"))?;
    Ok(Undo { operation: operation.to_owned(), arguments, what })
}

/// Undoes. Every one of these looks first and may be done again.
///
/// What the run holds it asks for right before, as the gate does before an effect. `site` may be another one than the
/// run's: its connections may be broken.
pub fn perform(run: &Run, site: &Site, undo: &Undo) -> Result<()> {
    let claims = &run.claims;
    claims.check_for_undo()?;
    match undo.operation.as_str() {
        "count_back" => kept::count_back(site, claims, &arguments(undo)?),
        "restore_attributes" => soap_modify::restore(run, site, &arguments(undo)?),
        "unlock" => freeze::take_lock_off(run, site, &arguments(undo)?),
        "unpublish" => switch::unpublish(site, claims, &arguments(undo)?),
        "unstage" => {
            let unstage: stage::Unstage = arguments(undo)?;
            stage::unstage(&own(claims, site.store(unstage.store.as_str())?), &unstage)
        }
        other => Err(Error::new(Kind::Usage, format!("{other}: no such undo; was it kept by a newer zlm?"))),
    }
}

/// Whether it gives an account back to its user, rather than taking a copy away.
pub fn is_of_account(undo: &Undo) -> bool {
    undo.operation != "unstage"
}

fn arguments<T: DeserializeOwned>(undo: &Undo) -> Result<T> {
    serde_json::from_value(undo.arguments.clone())
        .context(Kind::Data, || format!("{}: reading how to undo it", undo.operation))
}
