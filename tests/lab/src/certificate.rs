//! The lab's certificate authority and the servers' certificates, made as `zmcertmgr` makes them: RSA 2048, signed
//! by an authority of their own, the host's name as CN and subject alternative name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;

use crate::process::{command, output};

const REQUEST: &str = "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\n";

/// Makes `ca.pem` and `ca.key` in `dir`, and `NAME.pem` and `NAME.key` for each server.
///
/// `servers` are pairs of a file name and a host name.
pub(crate) fn make(dir: &Path, servers: &[(&str, String)]) -> Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    std::thread::scope(|scope| {
        let names = std::iter::once("ca").chain(servers.iter().map(|(name, _)| *name));
        let threads: Vec<_> = names.map(|name| scope.spawn(move || make_key(dir, name))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("the thread does not panic"))
    })?;
    make_authority(dir)?;
    servers.iter().enumerate().try_for_each(|(at, (name, host))| make_certificate(dir, at + 1, name, host))
}

fn make_key(dir: &Path, name: &str) -> Result<()> {
    output(
        command("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"])
            .arg(dir.join(format!("{name}.key"))),
    )
    .map(drop)
}

fn make_authority(dir: &Path) -> Result<()> {
    let config = dir.join("ca.cnf");
    fs::write(
        &config,
        format!(
            "{REQUEST}O = CA\nCN = lab.test\n[ext]\nbasicConstraints = critical,CA:TRUE\n\
             keyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash\n"
        ),
    )?;
    output(
        command("openssl")
            .args(["req", "-x509", "-sha256", "-days", "3650", "-extensions", "ext", "-config"])
            .arg(config)
            .arg("-key")
            .arg(dir.join("ca.key"))
            .arg("-out")
            .arg(dir.join("ca.pem")),
    )
    .map(drop)
}

fn make_certificate(dir: &Path, serial: usize, name: &str, host: &str) -> Result<()> {
    let config = dir.join(format!("{name}.cnf"));
    let request = dir.join(format!("{name}.csr"));
    fs::write(
        &config,
        format!(
            "{REQUEST}OU = Zimbra Collaboration Server\nCN = {host}\n[ext]\nbasicConstraints = CA:FALSE\n\
             keyUsage = digitalSignature,keyEncipherment\nextendedKeyUsage = serverAuth,clientAuth\n\
             subjectAltName = DNS:{host}\nauthorityKeyIdentifier = keyid\n"
        ),
    )?;
    output(
        command("openssl")
            .args(["req", "-new", "-sha256", "-config"])
            .arg(&config)
            .arg("-key")
            .arg(dir.join(format!("{name}.key")))
            .arg("-out")
            .arg(&request),
    )?;
    output(
        command("openssl")
            .args(["x509", "-req", "-sha256", "-days", "1825", "-extensions", "ext", "-set_serial"])
            .arg(serial.to_string())
            .arg("-extfile")
            .arg(&config)
            .arg("-in")
            .arg(&request)
            .arg("-CA")
            .arg(dir.join("ca.pem"))
            .arg("-CAkey")
            .arg(dir.join("ca.key"))
            .arg("-out")
            .arg(dir.join(format!("{name}.pem"))),
    )
    .map(drop)
}
