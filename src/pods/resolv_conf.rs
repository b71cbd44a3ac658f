//! The resolv.conf and hosts file that a pod's processes see.

use super::disk::Disk;
use super::hostfs::HostFs;
use super::proc::{Expected, Proc};
use super::{ListError, Options, Source};
use crate::netns::read_in_root;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// Most that is read of it.
const MOST_BYTES: u64 = 64 << 10;

/// The pod's own /etc/resolv.conf as its processes see it, at most 64 KiB of a regular file, read without
/// leaving the container's root; the node's for `host` and hostNetwork pods, and for `netns:NAME`
/// /etc/netns/NAME/resolv.conf first, as ip-netns(8) has it. `None` when there is none.
///
/// # Errors
/// [`ListError::HostRoot`]; [`ListError::Denied`] when this user may not look into the container's root.
pub fn resolv_conf(options: &Options, source: &Source) -> Result<Option<String>, ListError> {
    own_file(&options.open()?, source, "resolv.conf", &mut None)
}

/// The pod's resolv.conf with what is odd about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConfFile {
    /// As [`resolv_conf`] gives it.
    pub text: Option<String>,
    /// Why what stands at its path in a container cannot be read as a small file: it is a pipe, it is too large,
    /// its link leads nowhere. The text is then what the runtime once made, if anything.
    pub odd: Option<String>,
}

/// As [`resolv_conf`], and says what is odd about the file.
///
/// # Errors
/// As [`resolv_conf`].
pub fn resolv_conf_file(options: &Options, source: &Source) -> Result<ResolvConfFile, ListError> {
    let mut odd = None;
    let text = own_file(&options.open()?, source, "resolv.conf", &mut odd)?;
    Ok(ResolvConfFile { text, odd })
}

/// The pod's own /etc/hosts, found and read as [`resolv_conf`] is.
///
/// # Errors
/// As [`resolv_conf`].
pub fn hosts(options: &Options, source: &Source) -> Result<Option<String>, ListError> {
    own_file(&options.open()?, source, "hosts", &mut None)
}

/// `name` is a file in /etc.
fn own_file(
    fs: &HostFs,
    source: &Source,
    name: &str,
    odd: &mut Option<String>,
) -> Result<Option<String>, ListError> {
    let nodes = format!("/etc/{name}");
    let Some(pod) = &source.pod else {
        if let Some(pid) = source.pid.filter(|&pid| pid != 1) {
            return of_process(fs, pid, &nodes, None, odd);
        }
        let netns = source.label.strip_prefix("netns:").and_then(|path| path.rsplit('/').next());
        let own = netns.and_then(|netns| fs.read_text(&format!("/etc/netns/{netns}/{name}")));
        return Ok(own.or_else(|| fs.read_text(&nodes)));
    };
    let running =
        || pod.containers.iter().filter_map(|c| Some((c.pid?, Some((c.id.as_str(), pod.uid.as_str())))));
    let named = source.container_id.as_deref();
    let mut processes: Vec<_> = running().filter(|(_, id)| id.map(|(id, _)| id) == named).collect();
    processes.extend(running());
    if pod.containers.is_empty() {
        processes.extend(source.pid.map(|pid| (pid, None)));
    }
    let mut denied = None;
    for (pid, owner) in processes {
        match of_process(fs, pid, &nodes, owner, odd) {
            Ok(Some(text)) => return Ok(Some(text)),
            Ok(None) => {}
            Err(error) => denied = Some(error),
        }
    }
    // The pause container has no file of its own: the runtime made one for the sandbox, the kubelet the other.
    let made = match name {
        "resolv.conf" => Disk::new(fs).resolv_conf_paths(&pod.sandbox_id),
        _ if pod.uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
            vec![format!("/var/lib/kubelet/pods/{}/etc-hosts", pod.uid)]
        }
        _ => Vec::new(),
    };
    let found = made.iter().find_map(|path| fs.read_text(path));
    match (found, denied) {
        (Some(text), _) => Ok(Some(text)),
        (None, Some(error)) => Err(error),
        (None, None) if source.host_network => Ok(fs.read_text(&nodes)),
        (None, None) => Ok(None),
    }
}

/// A file below a process's root. With a container's id and its pod's UID the process is checked once its root
/// is open: a PID may have gone to somebody else since it was found.
fn of_process(
    fs: &HostFs,
    pid: u32,
    path: &str,
    owner: Option<(&str, &str)>,
    odd: &mut Option<String>,
) -> Result<Option<String>, ListError> {
    let root = fs.proc_root().join(pid.to_string()).join("root");
    let read = || {
        let folder = File::open(&root)?;
        let proc = Proc::new(fs.proc_root());
        let expected = owner.map(|(id, uid)| Expected { id, uid, start: None });
        if expected.is_some_and(|expected| proc.confirm(pid, expected, || None).is_err()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        read_in_root(folder.as_fd(), Path::new(path), MOST_BYTES)
    };
    match read() {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(ListError::Denied { path: root })
        }
        Err(error) => {
            if let Some(what) = oddity(&error) {
                odd.get_or_insert(what);
            }
            Ok(None)
        }
    }
}

/// What an error says of the file itself, and not of its absence.
fn oddity(error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::InvalidInput => Some("not a regular file".into()),
        io::ErrorKind::FileTooLarge => Some(format!("larger than {MOST_BYTES} bytes")),
        _ if error.raw_os_error() == Some(libc::ELOOP) => {
            Some("a link that leads in circles or into /proc".into())
        }
        _ => None,
    }
}
