//! Requests about servers.

use std::collections::BTreeSet;

use super::accounts::entry;
use super::{Admin, Request, odd};
use crate::error::{Error, Kind, Result};
use crate::xml::Element;
use crate::zimbra::ids::Host;
use crate::zimbra::server::Server;

impl Admin {
    /// The servers that have a service enabled, or all, with what they inherit from the global configuration.
    pub fn all_servers(&self, service: Option<&str>) -> Result<Vec<Server>> {
        let mut request = Request::new("GetAllServersRequest").repeatable().attr("applyConfig", "1");
        if let Some(service) = service {
            request = request.attr("service", service);
        }
        let answer = self.call(self.default_store()?, &request)?;
        answer
            .iter()
            .filter(|element| element.name() == "server")
            .map(|server| Server::from_entry(entry(server)))
            .collect()
    }

    /// A server by its `zimbraServiceHostname`, as it sees itself.
    pub fn server(&self, host: &Host) -> Result<Server> {
        let by = Element::new("server").attr("by", "serviceHostname").text(host.as_str());
        let request = Request::new("GetServerRequest").repeatable().attr("applyConfig", "1").child(by);
        let answer = self.call(host, &request)?;
        Server::from_entry(entry(odd(answer.first("server"), "GetServerRequest")?))
    }

    /// The version a store runs, such as `10.1.0_GA_4633`.
    pub fn version(&self, store: &Host) -> Result<String> {
        let answer = self.call(store, &Request::new("GetVersionInfoRequest").repeatable())?;
        let info = odd(answer.first("info"), "GetVersionInfoRequest")?;
        Ok(odd(info.value("version"), "GetVersionInfoRequest")?.to_owned())
    }

    /// Whether a store knows a request. Editions differ, and a request that is not there is answered with
    /// `service.UNKNOWN_DOCUMENT`. The request is sent empty, so that nothing can come of it.
    pub fn knows(&self, store: &Host, request: &str) -> Result<bool> {
        match self.call(store, &Request::new(request).repeatable()) {
            Err(e) if e.peer_code() == Some("service.UNKNOWN_DOCUMENT") => Ok(false),
            Err(e) if e.peer_code().is_none() || e.peer_code() == Some(super::AMBIGUOUS) => Err(e),
            _ => Ok(true),
        }
    }
}

/// Blobs that do not fit the rows of a mailbox, as a store sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobReport {
    /// Items whose blob is missing.
    pub missing: BTreeSet<u32>,
    /// Items whose blob has another size than the row says.
    pub wrong_size: BTreeSet<u32>,
    /// Items whose blob is of another revision than the row says.
    pub wrong_revision: BTreeSet<u32>,
    /// Files that no row names.
    pub unexpected: usize,
}

impl BlobReport {
    /// Whether every row has its blob.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.wrong_size.is_empty() && self.wrong_revision.is_empty()
    }

    /// Reads an answer; fails with [`Kind::Peer`] when it reports something that is not known here, which would
    /// otherwise look as if all were well.
    pub(super) fn read(answer: &Element) -> Result<Self> {
        let mut report = Self::default();
        for list in answer.iter().flat_map(Element::iter) {
            let ids: BTreeSet<u32> = list.iter().filter_map(|item| item.get("id")?.parse().ok()).collect();
            match list.name() {
                "missingBlobs" => report.missing.extend(ids),
                "incorrectSize" => report.wrong_size.extend(ids),
                "incorrectRevision" => report.wrong_revision.extend(ids),
                "unexpectedBlobs" => report.unexpected += list.iter().count(),
                "usedBlobs" => {}
                _ if list.iter().next().is_none() => {}
                other => {
                    return Err(Error::new(
                        Kind::Peer,
                        format!("CheckBlobConsistencyRequest: reports unknown {other}"),
                    ));
                }
            }
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lists: &str) -> Result<BlobReport> {
        let answer =
            format!("<CheckBlobConsistencyResponse><mbox id='7'>{lists}</mbox></CheckBlobConsistencyResponse>");
        BlobReport::read(&Element::parse(answer.as_bytes(), 10_000).unwrap())
    }

    #[test]
    fn every_list_counts() {
        let of = |name: &str| report(&format!("<{name}><item id='257' rev='3'><blob path='p'/></item></{name}>"));
        assert!(report("<missingBlobs/><incorrectSize/>").unwrap().is_complete());
        for name in ["missingBlobs", "incorrectSize", "incorrectRevision"] {
            assert!(!of(name).unwrap().is_complete(), "{name}");
        }
        let unexpected = of("unexpectedBlobs").unwrap();
        assert!(unexpected.is_complete() && unexpected.unexpected == 1);
        assert!(of("somethingNew").is_err());
    }
}
