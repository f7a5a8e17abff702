//! `conf/localconfig.xml`: this server's own settings, with references expanded.

use std::collections::HashMap;
use std::path::Path;

use crate::xml::Element;

const MAX_REFERENCES: usize = 32;

/// Settings by key. It holds passwords, so it has no `Debug`.
pub struct LocalConfig(HashMap<String, String>);

impl LocalConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// The path and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let at = |e: String| format!("{}: cannot read local config: {e}", path.display());
        let xml = std::fs::read_to_string(path).map_err(|e| at(e.to_string()))?;
        Self::parse(&xml).map_err(at)
    }

    fn parse(xml: &str) -> Result<Self, String> {
        let root = Element::parse(xml)?;
        let keys = root.children.iter().filter(|c| c.name == "key");
        let pairs = keys.filter_map(|k| Some((k.get("name")?.to_string(), k.find("value")?.text.trim().to_string())));
        Ok(Self(pairs.collect()))
    }

    /// The value of a key with its `${references}` expanded, or what Zimbra takes when it is absent.
    pub fn get(&self, key: &str, absent: &str) -> String {
        let mut value = self.0.get(key).map_or(absent, String::as_str).to_string();
        for _ in 0..MAX_REFERENCES {
            let Some(start) = value.find("${") else { break };
            let Some(length) = value[start..].find('}') else { break };
            let name = &value[start + 2..start + length];
            let with = self.0.get(name).cloned().unwrap_or_default();
            value.replace_range(start..=start + length, &with);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_and_loops_end() {
        let c = LocalConfig::parse(
            "<localconfig><key name='a'><value>/x</value></key><key name='b'><value>${a}/y ${none}</value></key>\
             <key name='l'><value>${l}</value></key><key name='p'><value>a&amp;b</value></key></localconfig>",
        )
        .unwrap();
        assert_eq!(c.get("b", ""), "/x/y ");
        assert_eq!(c.get("p", ""), "a&b");
        assert_eq!(c.get("c", "100"), "100");
        assert_eq!(c.get("l", ""), "${l}");
    }
}
