//! The addresses that CNI gives to pods on this node: configuration, host-local's reservations, the kubelet's `maxPods`.
//! Everything under the host root, bounded; nothing is written.

mod config;
mod max_pods;
mod range;
mod reservation;

pub use config::parse_networks;
pub use max_pods::read_max_pods;
pub use reservation::parse_reservation;

use super::ObserveError;
use crate::facts::{IpamNetwork, IpamState, Reservation};
use crate::netns::{open_in_root, read_in_root};
use rustix::fs::{Dir, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// What containerd reads of one file at most.
const MOST_BYTES: u64 = 2 << 20;
const MOST_NETWORKS: usize = 1000;

/// Reads what the node whose file system is at `host_root` tells of its pods' addresses. Who holds them is left open.
///
/// # Errors
/// [`ObserveError::Io`] when nothing can be read for want of a privilege.
pub fn read_ipam(host_root: &Path) -> Result<IpamState, ObserveError> {
    let Ok(root) = File::open(host_root) else { return Ok(IpamState::default()) };
    let mut state = IpamState { booted_at: boot_time(&root), ..IpamState::default() };
    read_configuration(&root, &mut state);
    add_unconfigured(&root, &mut state)?;
    for network in state.networks.iter_mut().filter(|network| network.plugin == "host-local") {
        match reservation::read_folder(&root, &network.folder) {
            Ok(folder) => {
                network.reservations = folder.reservations;
                network.strange_names = folder.strange_names;
                state.unread.extend(folder.unread);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(ObserveError::Io {
                    what: "reading the reservations of host-local",
                    source: error,
                });
            }
            Err(error) => state.unread.push((network.folder.clone(), error.to_string())),
        }
    }
    Ok(state)
}

/// Adds when those reservations were written that `asked` picks.
pub fn read_ages(host_root: &Path, state: &mut IpamState, asked: &dyn Fn(&Reservation) -> bool) {
    let Ok(root) = File::open(host_root) else { return };
    for network in &mut state.networks {
        reservation::read_ages(&root, &network.folder, &mut network.reservations, asked);
    }
}

fn read_configuration(root: &File, state: &mut IpamState) {
    let flannel = |path: &str| {
        let bytes =
            read_in_root(root.as_fd(), Path::new(path), MOST_BYTES).map_err(|error| error.to_string())?;
        config::flannel_subnets(&String::from_utf8_lossy(&bytes))
    };
    for (path, _, bytes) in super::cni_config::read_files(root) {
        match bytes
            .map_err(|e| e.to_string())
            .and_then(|bytes| config::parse_networks(&path, &bytes, &flannel))
        {
            // Several files may name one network: the first counts.
            Ok(found) => found.into_iter().for_each(|network| {
                if !state.networks.iter().any(|other| same(other, &network)) {
                    state.networks.push(network);
                }
            }),
            Err(why) => state.unread.push((path, why)),
        }
    }
}

fn same(a: &IpamNetwork, b: &IpamNetwork) -> bool {
    a.name == b.name && a.plugin == b.plugin && a.folder == b.folder
}

/// Reservations of networks that no configuration names any more.
fn add_unconfigured(root: &File, state: &mut IpamState) -> Result<(), ObserveError> {
    let names = match names(root, config::DATA) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(ObserveError::Io { what: "reading /var/lib/cni/networks", source: error });
        }
        Err(_) => return Ok(()),
    };
    let mut folders: Vec<(String, String)> =
        names.into_iter().map(|name| (format!("{}/{name}", config::DATA), name)).collect();
    folders.retain(|(path, _)| {
        let known = state.networks.iter().any(|n| n.plugin == "host-local" && n.folder == *path);
        !known
            && open_in_root(
                root.as_fd(),
                Path::new(path),
                OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW,
            )
            .is_ok()
    });
    folders.sort();
    for (folder, name) in folders.into_iter().take(MOST_NETWORKS) {
        state.networks.push(IpamNetwork {
            name,
            plugin: "host-local".into(),
            folder,
            ..IpamNetwork::default()
        });
    }
    Ok(())
}

fn names(root: &File, folder: &str) -> io::Result<Vec<String>> {
    let fd = open_in_root(root.as_fd(), Path::new(folder), OFlags::RDONLY | OFlags::DIRECTORY)?;
    let names = Dir::new(fd)?
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str().ok().map(ToOwned::to_owned))
        .filter(|name| name != "." && name != "..");
    Ok(names.take(MOST_NETWORKS * 10).collect())
}

/// `btime` of /proc/stat (proc_stat(5)).
fn boot_time(root: &File) -> Option<i64> {
    let bytes = read_in_root(root.as_fd(), Path::new("/proc/stat"), MOST_BYTES).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}
