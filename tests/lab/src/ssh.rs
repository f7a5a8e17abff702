//! Keys of hosts and of their `zimbra` users. Everyone may log in to everyone, as on a Zimbra whose keys were updated.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::layout::write_zimbra_file;
use crate::process::{command, output};

const SSHD_CONFIG: &str = "\
HostKey /opt/lab/etc/ssh_host_key
PidFile none
UsePAM no
UseDNS no
PermitRootLogin no
AllowUsers zimbra
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
LogLevel VERBOSE
";

/// Makes the keys of all hosts and tells each about the others.
pub(crate) fn make_keys(hosts: &[&Host]) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = hosts.iter().map(|host| scope.spawn(move || make_host_keys(host))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("the thread does not panic"))
    })?;
    let mut authorized = String::new();
    let mut known = String::new();
    for host in hosts {
        authorized.push_str(&read(&host.dir.join("etc/zimbra_identity.pub"))?);
        let key = read(&host.dir.join("etc/ssh_host_key.pub"))?;
        let mut words = key.split_whitespace();
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        known.push_str(&format!("{},{},{} {kind} {key}\n", host.fqdn, host.name, host.ip));
    }
    for host in hosts {
        let etc = host.dir.join("etc");
        write_zimbra_file(host, ".ssh/zimbra_identity", 0o600, read(&etc.join("zimbra_identity"))?)?;
        write_zimbra_file(host, ".ssh/zimbra_identity.pub", 0o644, read(&etc.join("zimbra_identity.pub"))?)?;
        write_zimbra_file(host, ".ssh/authorized_keys", 0o600, &authorized)?;
        write_zimbra_file(host, ".ssh/known_hosts", 0o644, &known)?;
        fs::write(etc.join("sshd_config"), SSHD_CONFIG)?;
    }
    Ok(())
}

fn make_host_keys(host: &Host) -> Result<()> {
    let etc = host.dir.join("etc");
    for (file, comment) in [("ssh_host_key", &host.fqdn), ("zimbra_identity", &format!("zimbra@{}", host.fqdn))] {
        output(command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(etc.join(file)))?;
        fs::set_permissions(etc.join(file), fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
