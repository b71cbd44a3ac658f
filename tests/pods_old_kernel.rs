//! Kernels without `pidfd_open` (before 5.3) and `openat2` (before 5.6): a seccomp filter answers ENOSYS, as
//! they do, and everything must come out the same.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod pods_support;

use nsprobe::netns::{Process, read_in_root};
use nsprobe::pods::{Options, resolve};
use pods_support::Node;
use pods_support::cri::dead;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

/// From here on this thread, and what it starts, has neither call.
fn become_old() -> io::Result<()> {
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let statement =
        |code: u32, k: u32| libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt: 0, jf: 0, k };
    let jump = |k: u32, jt: u8| libc::sock_filter {
        code: u16::try_from(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K).unwrap_or(0),
        jt,
        jf: 0,
        k,
    };
    let enosys = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::ENOSYS).unwrap_or(0);
    let mut filter = [
        // The number of the call is the first word of struct seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        jump(number(libc::SYS_openat2), 2),
        jump(number(libc::SYS_pidfd_open), 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        statement(libc::BPF_RET | libc::BPF_K, enosys),
    ];
    let program = libc::sock_fprog { len: 5, filter: filter.as_mut_ptr() };
    // SAFETY: both calls read their arguments only; `filter` outlives the second one, which copies it.
    let result = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 {
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        } else {
            -1
        }
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What `work` gives on this kernel and on an old one.
fn now_and_then<T: Send>(work: impl Fn() -> T + Send + Sync) -> (T, T) {
    let now = work();
    let then = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            become_old().unwrap();
            // SAFETY: the call takes a PID and flags and makes a file descriptor at most.
            let refused = unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) };
            assert_eq!((refused, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ENOSYS)));
            work()
        });
        thread.join().unwrap()
    });
    (now, then)
}

#[test]
fn a_process_is_pinned_by_its_start_time_alone() {
    let (now, then) = now_and_then(|| {
        let process = Process::open(Path::new("/proc"), std::process::id(), None).unwrap();
        process.check().unwrap();
        let reused = Process::open(Path::new("/proc"), std::process::id(), Some(1));
        (
            process.start_time().unwrap(),
            process.open_netns().unwrap().inode(),
            reused.unwrap_err().to_string(),
        )
    });
    assert_eq!(now, then);
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let (now, then) = now_and_then(|| Process::open(Path::new("/proc"), pid, None).unwrap_err().to_string());
    assert_eq!(
        (now.as_str(), then.as_str()),
        (format!("the process {pid} has ended").as_str(), now.as_str())
    );
}

#[test]
fn a_path_inside_a_root_is_walked_by_hand() {
    let node = Node::empty();
    node.put("run/resolv", "stub");
    node.link("/run/resolv", "etc/resolv.conf");
    node.link("/../../etc/passwd", "etc/escape");
    let (now, then) = now_and_then(|| {
        let root = File::open(node.root()).unwrap();
        let read = |path: &str| {
            read_in_root(root.as_fd(), Path::new(path), 99)
                .map_err(|e| e.raw_os_error())
                .map(String::from_utf8)
        };
        (read("/etc/resolv.conf"), read("/etc/escape"), read("/run"), read("/proc/1/ns/net"))
    });
    assert_eq!(now, then);
    assert_eq!(then.0, Ok(Ok("stub".to_owned())));
    assert_eq!(then.1, Err(Some(libc::ENOENT)));
}

#[test]
fn a_source_is_resolved() {
    let options = Options { host_root: "/".into(), endpoint: None, timeout: Duration::from_millis(100) };
    let (now, then) = now_and_then(|| {
        let source = resolve(&options, &format!("pid:{}", std::process::id())).unwrap();
        (source.label, source.netns.inode(), source.pid)
    });
    assert_eq!(now, then);
}

#[test]
fn the_list_of_pods_is_the_same() {
    let node = Node::recorded("containerd-1.6");
    dead(&node, "/run/containerd/containerd.sock");
    let now = node.command(&["pods", "--all", "-o", "json"]).output().unwrap();
    let mut command = node.command(&["pods", "--all", "-o", "json"]);
    // SAFETY: between fork and exec only prctl is called, and nothing is allocated.
    unsafe { command.pre_exec(become_old) };
    let then = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((text(&now.stdout), text(&now.stderr)), (text(&then.stdout), text(&then.stderr)));
    assert!(text(&then.stdout).contains("web-6f5d-k5"));
    assert_eq!(now.status.code(), then.status.code());
}
