//! The network between the hosts: a bridge inside the switch, and a cable from it to each host.

use anyhow::Result;

use crate::host::Host;
use crate::process;

/// Makes the bridge `lab0` in the switch.
pub(crate) fn make_bridge(switch: &Host) -> Result<()> {
    batch(switch, "link add lab0 type bridge\nlink set lab0 up\n")
}

/// Plugs a host that was just powered on into the switch.
pub(crate) fn plug(switch: &Host, host: &Host) -> Result<()> {
    let cable = format!("v-{}", host.name);
    // The kernel takes a dead host's cable away in its own time.
    let _ = process::output(&mut in_network(switch, &["link", "del", &cable]));
    let pid = host.pid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let peer = format!("peer name eth0 address {} netns {pid}", hardware_address(host));
    batch(switch, &format!("link add {cable} type veth {peer}\nlink set {cable} master lab0\nlink set {cable} up\n"))?;
    batch(host, &format!("link set lo up\naddr add {}/24 dev eth0\nlink set eth0 up\n", host.ip))
}

/// A host keeps its card when it loses power: with a new one the others would look for the old for a while.
fn hardware_address(host: &Host) -> String {
    let number = host.ip.rsplit('.').next().unwrap_or_default();
    format!("02:00:0a:4d:00:{:02x}", number.parse::<u8>().unwrap_or_default())
}

fn batch(host: &Host, commands: &str) -> Result<()> {
    process::output_of_input(&mut in_network(host, &["-batch", "-"]), commands).map(drop)
}

/// `ip` in the network of a host, but with the pids of the outer world: cables are given to hosts by pid.
fn in_network(host: &Host, arguments: &[&str]) -> std::process::Command {
    let pid = host.pid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let mut command = process::command("nsenter");
    command.args(["-t", &pid.to_string(), "-n", "ip"]).args(arguments);
    command
}
