//! The units of the kubelet and the runtime, asked of systemd over D-Bus; without systemd, their processes.
//!
//! The client is our own and knows nothing but `Properties.Get` ([`bus`], [`message`]: 300 lines): `zbus` brings an
//! executor, an XML parser and 70 CPU-seconds of building, for a dozen numbers and words that are asked once.
//! systemd's private socket comes first: it answers root also where dbus-daemon is not there or hangs.

mod bus;
mod message;
mod processes;

use crate::facts::{NodeUnits, UnitState};
use bus::{Bus, Question, Value};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time for all questions together.
const PATIENCE: Duration = Duration::from_secs(2);
/// systemd's own socket (root only, no daemon between), then the system bus.
const SOCKETS: &[(&str, bool)] = &[("/run/systemd/private", false), ("/run/dbus/system_bus_socket", true)];

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// Reads the state of those units that exist, or of the processes where no systemd answers. Nothing fails.
pub fn read_node_units(host_root: &Path) -> NodeUnits {
    let root = match File::open(host_root) {
        Ok(root) => root,
        Err(error) => return NodeUnits::Unknown(format!("{}: {error}", host_root.display())),
    };
    let deadline = Instant::now() + PATIENCE;
    let mut why = Vec::new();
    for (path, greet) in SOCKETS {
        match Bus::connect(&root, path, *greet, deadline).and_then(|mut bus| ask(&mut bus)) {
            Ok(units) => return NodeUnits::Systemd(units, (*path).to_owned()),
            Err(error) => why.push(format!("{path}: {error}")),
        }
    }
    let why = why.join("; ");
    match processes::read(&root) {
        Ok(found) => NodeUnits::Processes(found, why),
        Err(error) => NodeUnits::Unknown(format!("{why}; /proc: {error}")),
    }
}

fn ask(bus: &mut Bus) -> io::Result<Vec<UnitState>> {
    let question = |name: &str, interface, property| Question { path: object(name), interface, property };
    let names = super::journal::UNITS;
    let loads = bus.get(&names.iter().map(|name| question(name, UNIT, "LoadState")).collect::<Vec<_>>())?;
    let mut units = Vec::new();
    for (name, load) in names.iter().zip(loads) {
        let load_state = load.and_then(Value::text);
        if load_state.as_deref().is_none_or(|state| state == "not-found") {
            continue;
        }
        let mut answers = bus
            .get(&[
                question(name, UNIT, "ActiveState"),
                question(name, UNIT, "SubState"),
                question(name, UNIT, "UnitFileState"),
                question(name, SERVICE, "Result"),
                question(name, SERVICE, "NRestarts"),
                question(name, SERVICE, "MainPID"),
                question(name, SERVICE, "ExecMainCode"),
                question(name, SERVICE, "ExecMainStatus"),
                question(name, SERVICE, "ExecMainExitTimestamp"),
                question(name, UNIT, "StateChangeTimestamp"),
            ])?
            .into_iter();
        let mut next = || answers.next().flatten();
        units.push(UnitState {
            name: (*name).to_owned(),
            load_state,
            active_state: next().and_then(Value::text),
            sub_state: next().and_then(Value::text),
            file_state: next().and_then(Value::text),
            result: next().and_then(Value::text),
            restarts: next().and_then(Value::number),
            main_pid: next().and_then(Value::number),
            exit_code: next().and_then(Value::number),
            exit_status: next().and_then(Value::number),
            exit_us: next().and_then(Value::number),
            since_us: next().and_then(Value::number),
        });
    }
    Ok(units)
}

/// `/org/freedesktop/systemd1/unit/kubelet_2eservice`: whatever is no letter or digit as `_` and two digits.
fn object(name: &str) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && at > 0) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

#[cfg(test)]
mod tests;
