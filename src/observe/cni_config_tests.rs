//! Files as CNIs write them, and files that are wrong in every way that was thought of.

use super::*;
use std::os::unix::fs::symlink;

fn plugins(name: &str, text: &str) -> Vec<(String, Option<u32>, Option<String>)> {
    let network = parse_cni(name, text.as_bytes()).unwrap();
    network.plugins.into_iter().map(|p| (p.kind, p.mtu_bytes, p.bridge)).collect()
}

#[test]
fn what_cnis_write_is_understood() {
    let flannel = r#"{"name": "cbr0", "cniVersion": "0.3.1", "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
        {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;
    let cni0 = Some("cni0".to_owned());
    assert_eq!(
        plugins("10-flannel.conflist", flannel),
        [("flannel".into(), None, cni0.clone()), ("portmap".into(), None, None)]
    );
    let own =
        r#"{"name": "cbr0", "type": "flannel", "mtu": 1400, "delegate": {"mtu": 1300, "bridge": "br7"}}"#;
    assert_eq!(
        plugins("f.conf", own),
        [("flannel".into(), Some(1300), Some("br7".into()))],
        "the delegate's counts"
    );
    let ptp = r#"{"name": "x", "type": "flannel", "delegate": {"type": "ptp"}}"#;
    assert_eq!(plugins("f.conf", ptp), [("flannel".into(), None, None)], "no bridge");
    let bridge = r#"{"name": "p", "plugins": [{"type": "bridge", "bridge": "br1", "mtu": 1450}, {"type": "tuning", "mtu": 1400}]}"#;
    assert_eq!(
        plugins("p.conflist", bridge),
        [("bridge".into(), Some(1450), Some("br1".into())), ("tuning".into(), Some(1400), None)]
    );
    let calico =
        r#"{"name": "k8s-pod-network", "plugins": [{"type": "calico", "mtu": 0}, {"type": "bandwidth"}]}"#;
    assert_eq!(plugins("c.conflist", calico)[0], ("calico".into(), None, None), "0 leaves it to the file");
    let aws = r#"{"name": "aws-cni", "plugins": [{"type": "aws-cni", "mtu": "9001"}]}"#;
    assert_eq!(plugins("a.conflist", aws), [("aws-cni".into(), Some(9001), None)], "a number in quotes");
    let multus = r#"{"name": "multus", "type": "multus", "delegates": [
        {"name": "n", "plugins": [{"type": "macvlan", "mtu": 1480}]}, {"type": "bridge"}]}"#;
    assert_eq!(
        plugins("00-multus.conf", multus),
        [("multus".into(), None, None), ("macvlan".into(), Some(1480), None), ("bridge".into(), None, cni0)]
    );
}

#[test]
fn what_is_wrong_is_said_in_one_sentence() {
    for (name, text, why) in [
        ("a.conflist", "", "it is not JSON"),
        ("a.conflist", "{\"name\": \"x\"", "it is not JSON"),
        ("a.conf", "{\"type\": \"bridge\"} {\"type\": \"macvlan\"}", "it is not JSON: trailing characters"),
        ("a.conflist", "[]", "no object"),
        ("a.conflist", "{\"name\": \"x\", \"plugins\": []}", "no plugins"),
        ("a.conflist", "{\"name\": \"x\", \"type\": \"bridge\"}", "no plugins"),
        ("a.conflist", "{\"plugins\": [{\"type\": \"bridge\"}]}", "no name"),
        ("a.conflist", "{\"name\": \"x\", \"plugins\": [{}]}", "no type"),
        ("a.conflist", "{\"name\": \"x\", \"plugins\": [7]}", "no type"),
        ("a.conf", "{\"name\": \"x\", \"plugins\": [{\"type\": \"bridge\"}]}", "must end in .conflist"),
        ("a.conf", "{\"name\": \"x\"}", "no type"),
        ("a.conf", "{\"type\": \"bridge\", \"mtu\": 70000}", "`70000` is no MTU"),
        ("a.conf", "{\"type\": \"bridge\", \"mtu\": -1}", "`-1` is no MTU"),
        ("a.conf", "{\"type\": \"bridge\", \"mtu\": 1450.5}", "`1450.5` is no MTU"),
        ("a.conf", "{\"type\": \"bridge\", \"mtu\": \"__CNI_MTU__\"}", "`__CNI_MTU__` is no MTU"),
        ("a.conf", "{\"type\": \"bridge\", \"mtu\": [1450]}", "is no number"),
        ("a.conf", "\u{0}\u{1}\u{2}", "it is not JSON"),
    ] {
        let said = parse_cni(name, text.as_bytes()).unwrap_err();
        assert!(said.contains(why), "{text}: {said}");
    }
    let deep = "[".repeat(100_000);
    assert!(parse_cni("a.conf", deep.as_bytes()).is_err());
    let nested = "{\"type\": \"m\", \"delegates\": [".repeat(30) + &"]}".repeat(30);
    assert_eq!(parse_cni("a.conf", nested.as_bytes()).unwrap().plugins.len(), 4, "no deeper than is known");
    let many = format!(
        "{{\"name\": \"x\", \"plugins\": [{}{{\"type\": \"b\"}}]}}",
        "{\"type\": \"b\"},".repeat(5000)
    );
    assert_eq!(parse_cni("a.conflist", many.as_bytes()).unwrap().plugins.len(), MOST_PLUGINS);
}

#[test]
fn the_mtu_files_of_flannel_and_calico() {
    let env = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    assert_eq!(flannel_mtu(env), Ok(1450));
    assert_eq!(flannel_mtu("FLANNEL_MTU=\"1400\"\r\n"), Ok(1400));
    assert_eq!(flannel_mtu("FLANNEL_NETWORK=1\n"), Err("it has no FLANNEL_MTU".into()));
    assert_eq!(flannel_mtu("FLANNEL_MTU=\n"), Err("`` is no MTU".into()));
    assert_eq!(mtu_of_text("1450"), Ok(1450));
    for wrong in ["", "0", "67", "65536", "-5", "1450x", "99999999999999999999"] {
        assert!(mtu_of_text(wrong).is_err(), "{wrong}");
    }
}

/// A node's file system with these files.
fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let at = dir.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, text).unwrap();
    }
    dir
}

const BRIDGE: &str = r#"{"name": "b", "type": "bridge", "mtu": 1450}"#;

#[test]
fn files_stand_in_the_order_in_which_a_runtime_reads_them() {
    let dir = root(&[
        ("/etc/cni/net.d/20-late.conf", BRIDGE),
        ("/etc/cni/net.d/10-early.conflist", "not JSON"),
        ("/etc/cni/net.d/05-off.conflist.bak", BRIDGE),
        ("/etc/cni/net.d/99-last.json", BRIDGE),
        ("/var/lib/rancher/k3s/agent/etc/cni/net.d/00-other.conf", BRIDGE),
        ("/var/lib/calico/mtu", "1440\n"),
    ]);
    std::fs::create_dir(dir.path().join("etc/cni/net.d/00-folder.conf")).unwrap();
    let config = read_cni_config(dir.path(), None);
    let paths: Vec<&str> = config.files.iter().map(|f| f.path.rsplit('/').next().unwrap()).collect();
    assert_eq!(paths, ["10-early.conflist", "20-late.conf", "99-last.json"]);
    assert!(config.files[0].content.is_err() && config.files[1].content.is_ok());
    assert!(config.files[1].modified.unwrap() > 1_600_000_000);
    assert_eq!(config.calico.unwrap().content, Ok(1440));
    assert_eq!(config.flannel, None);

    let k3s = root(&[("/var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist", "{}")]);
    assert_eq!(read_cni_config(k3s.path(), None).files.len(), 1);
    assert_eq!(read_cni_config(Path::new("/nonexistent"), None), CniConfig::default());
}

#[test]
fn the_folder_that_the_running_containerd_states_is_the_one_that_counts() {
    let config = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = \"/opt/net.d\"\n";
    let dir = root(&[
        ("/etc/cni/net.d/10-left.conf", BRIDGE),
        ("/opt/net.d/10-used.conf", BRIDGE),
        ("/x.toml", config),
    ]);
    let first = |dir: &Path| read_cni_config(dir, None).files.first().map(|f| f.path.clone());
    assert_eq!(first(dir.path()).as_deref(), Some("/etc/cni/net.d/10-left.conf"), "nothing runs");
    let process = dir.path().join("proc/7");
    std::fs::create_dir_all(&process).unwrap();
    symlink("/usr/bin/containerd", process.join("exe")).unwrap();
    std::fs::write(process.join("cmdline"), "containerd\0--config\0/x.toml\0").unwrap();
    std::fs::write(process.join("cgroup"), "0::/system.slice/containerd.service\n").unwrap();
    assert_eq!(first(dir.path()).as_deref(), Some("/opt/net.d/10-used.conf"));
    // A second one runs, of which the kubelet knows nothing.
    let second = dir.path().join("proc/3");
    std::fs::create_dir_all(&second).unwrap();
    symlink("/usr/bin/containerd", second.join("exe")).unwrap();
    std::fs::write(second.join("cmdline"), "containerd\0--config\0/y.toml\0").unwrap();
    std::fs::write(second.join("cgroup"), "0::/system.slice/docker.service\n").unwrap();
    std::fs::write(dir.path().join("y.toml"), config.replace("/opt/net.d", "/etc/cni/net.d")).unwrap();
    let folders = |runtime| read_cni_config(dir.path(), runtime).folders;
    assert_eq!(folders(Some(7)), ["/opt/net.d"]);
    assert_eq!(folders(Some(3)), ["/etc/cni/net.d"]);
    assert_eq!(folders(None), ["/etc/cni/net.d", "/opt/net.d"]);
    assert_eq!(folders(Some(9)), folders(None), "that is no runtime");
    std::fs::remove_dir_all(second).unwrap();
    std::fs::remove_file(dir.path().join("opt/net.d/10-used.conf")).unwrap();
    let read = read_cni_config(dir.path(), None);
    assert_eq!(
        (read.files.len(), read.folders),
        (0, vec!["/opt/net.d".to_owned()]),
        "no other folder counts"
    );
    // A folder that is a link out of the root leads nowhere.
    std::fs::remove_dir(dir.path().join("opt/net.d")).unwrap();
    let outside = root(&[("/a/10-outside.conf", BRIDGE)]);
    symlink(outside.path().join("a"), dir.path().join("opt/net.d")).unwrap();
    assert_eq!(first(dir.path()), None);
    std::fs::write(dir.path().join("x.toml"), "version = 2\n").unwrap();
    assert_eq!(first(dir.path()).as_deref(), Some("/etc/cni/net.d/10-left.conf"), "containerd's default");
}

#[test]
fn links_stay_inside_the_root_and_other_kinds_of_files_are_not_opened() {
    let dir = root(&[("/etc/cni/net.d/30-plain.conf", BRIDGE), ("/opt/real.conf", BRIDGE)]);
    let at = |name: &str| dir.path().join("etc/cni/net.d").join(name);
    symlink("/opt/real.conf", at("10-absolute.conf")).unwrap();
    symlink("../../../../../../../etc/passwd", at("20-escape.conf")).unwrap();
    nix::unistd::mkfifo(&at("40-fifo.conf"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let big = std::fs::File::create(at("50-big.conf")).unwrap();
    big.set_len(64 << 20).unwrap();
    symlink("60-loop.conf", at("60-loop.conf")).unwrap();
    std::fs::create_dir_all(dir.path().join("run/flannel")).unwrap();
    symlink("/dev/zero", dir.path().join("run/flannel/subnet.env")).unwrap();
    let config = read_cni_config(dir.path(), None);
    let ok: Vec<bool> = config.files.iter().map(|f| f.content.is_ok()).collect();
    assert_eq!(ok, [true, false, true, false, false, false], "{:#?}", config.files);
    assert_eq!(config.files[3].content, Err("it is no regular file".into()));
    assert!(config.files[4].content.as_ref().unwrap_err().contains("larger than"));
    assert_eq!(config.flannel, None, "the root has no /dev/zero");
}
