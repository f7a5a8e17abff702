//! The lab's passwords. They are random, and files that only root reads.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Every secret of a lab. The ones of a store carry its name in front.
pub const SECRETS: [&str; 5] = [
    "zimbra_ldap_password",
    "admin_password",
    "account_password",
    "store1.zimbra_mysql_password",
    "store2.zimbra_mysql_password",
];

pub(crate) fn make(lab: &Path) -> Result<()> {
    let dir = lab.join("secrets");
    fs::create_dir_all(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
    for name in SECRETS {
        let mut bytes = [0; 12];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(dir.join(name), text)?;
    }
    Ok(())
}

pub(crate) fn read(lab: &Path, name: &str) -> Result<String> {
    fs::read_to_string(lab.join("secrets").join(name)).with_context(|| format!("{name}: not a secret of this lab"))
}

/// A new random UUID, as `zimbraId` is one.
pub(crate) fn uuid() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}
