//! SOURCE against real processes and namespaces: who may look, what a container's root may do, which way leads
//! to a pod without a process. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod pods_support;
mod support;

use nsprobe::pods::{Options, resolv_conf, resolve};
use pods_support::Node;
use pods_support::cri::{dead, hung};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{Netns, Running, nsprobe_as_nobody, run, stderr, stdout};

fn here() -> Options {
    Options { host_root: "/".into(), endpoint: None, timeout: Duration::from_millis(200) }
}

#[test]
fn another_user_is_told_what_is_missing() {
    let node = Node::empty();
    let _listener = hung(&node, "/run/containerd/containerd.sock");
    std::fs::set_permissions(node.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = node.root().join("run/containerd/containerd.sock");
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o660)).unwrap();
    let (mut command, _folder) = nsprobe_as_nobody();
    let output = command.arg("--host-root").arg(node.root()).args(["pods"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("/run/containerd/containerd.sock") && text.contains("run as root"), "{text}");
    // Behind a folder that may not be searched.
    let folder = node.root().join("run/containerd");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (mut command, _folder) = nsprobe_as_nobody();
    let output = command.arg("--host-root").arg(node.root()).args(["pods", "-o", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}{}", stdout(&output), stderr(&output));
}

/// A process whose root is a folder with a shell in it.
fn container(root: &Path) -> Running {
    run("cp", &[Path::new("/bin/busybox"), root]);
    let child = Command::new("chroot")
        .arg(root)
        .args(["/busybox", "sh", "-c", "echo up; exec /busybox sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut up = [0; 3];
    std::io::Read::read_exact(running.0.stdout.as_mut().unwrap(), &mut up).unwrap();
    running
}

#[test]
fn a_containers_resolv_conf_cannot_lead_out_of_its_root_nor_hold_us_up() {
    let node = Node::empty();
    node.put("run/resolv", "nameserver 192.0.2.1\n");
    node.put("etc/x", "");
    let conf = node.root().join("etc/resolv.conf");
    let process = container(node.root());
    let options = here();
    let read = || {
        let source = resolve(&options, &format!("pid:{}", process.0.id())).unwrap();
        resolv_conf(&options, &source).unwrap()
    };
    assert_eq!(read(), None);
    for target in ["/run/resolv", "../run/resolv", "../../../../../run/resolv"] {
        std::os::unix::fs::symlink(target, &conf).unwrap();
        assert_eq!(read().as_deref(), Some("nameserver 192.0.2.1\n"), "{target}");
        std::fs::remove_file(&conf).unwrap();
    }
    for target in ["/etc/hostname", "../../../../../../../../etc/passwd", "/proc/1/root/etc/passwd"] {
        std::os::unix::fs::symlink(target, &conf).unwrap();
        assert_eq!(read(), None, "{target} is the node's");
        std::fs::remove_file(&conf).unwrap();
    }
    nix::unistd::mkfifo(&conf, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    assert_eq!(read(), None, "a FIFO");
    std::fs::remove_file(&conf).unwrap();
    std::fs::write(&conf, "x".repeat(65 << 10)).unwrap();
    assert_eq!(read(), None, "too large");
}

/// A bind mount that is gone when dropped.
struct Mount(PathBuf);

impl Mount {
    fn bind(from: &Path, to: PathBuf) -> Self {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(&to, "").unwrap();
        run("mount", &[Path::new("--bind"), from, &to]);
        Self(to)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_pod_without_a_process_is_entered_through_its_namespaces_path() {
    let netns = Netns::new();
    netns.ip("link add mark type veth peer name other");
    let node = Node::recorded("crio-1.37");
    // Where the runtime says /var/run, the node has a link to /run.
    node.link("/run", "var/run");
    node.remove("proc/2118");
    dead(&node, "/run/crio/crio.sock");
    let path = node.root().join("run/netns/2d9ceac1-272b-4879-a24c-a6d87f4a41f5");
    let links = ["exec", "web-6f5d-k4", "--", "ip", "-br", "link"];
    let before = node.run(&links);
    assert_eq!(before.status.code(), Some(125));
    assert!(stderr(&before).contains("is not mounted here"), "{}", stderr(&before));
    let _mount = Mount::bind(&netns.path(), path);
    let output = node.run(&links);
    assert!(stdout(&output).contains("mark@other"), "{}{}", stdout(&output), stderr(&output));
    let listed = node.json(&["pods", "web-6f5d-k4"]);
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(netns.path()).unwrap());
    let pod = &listed.pods()[0];
    assert_eq!((&pod["pid"], pod["netns_inode"].as_u64()), (&serde_json::Value::Null, Some(inode)));
    let named = node.run(&["exec", "netns:2d9ceac1-272b-4879-a24c-a6d87f4a41f5", "--", "ip", "-br", "link"]);
    assert!(stdout(&named).contains("mark@other"), "{}", stderr(&named));
}

#[test]
fn a_path_that_is_no_namespace_is_refused() {
    let node = Node::empty();
    node.put("run/netns/plain", "");
    for (source, words) in [
        ("netns:plain", "plain file"),
        ("netns:missing", "cannot open"),
        ("netns:/run", "a folder"),
        ("pid:4194305", "has ended"),
    ] {
        let output = node.run(&["exec", source, "--", "true"]);
        assert_eq!(output.status.code(), Some(125), "{source}");
        assert!(stderr(&output).contains(words), "{source}: {}", stderr(&output));
    }
    let mount = format!("netns:/proc/{}/ns/mnt", std::process::id());
    let error = resolve(&here(), &mount).unwrap_err().to_string();
    assert!(error.contains("another kind of namespace"), "{error}");
}
