use super::*;

const UNIT: &str = "/etc/systemd/system/k3s.service";
const DROP_INS: &str = "/var/lib/rancher/k3s/agent/etc/kubelet.conf.d";

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(path, text)| tree.put(path, text));
        tree
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn given(&self, arguments: &[&str]) -> Seen<Option<Given>> {
        let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        let process = KubeletProcess::of(arguments, "0::/system.slice/k3s.service").unwrap();
        given(&File::open(self.0.path()).unwrap(), &process)
    }

    fn value(&self, arguments: &[&str], name: &str) -> Option<String> {
        value(&self.given(arguments).unwrap().unwrap().flags, name)
    }
}

#[test]
fn the_last_of_a_flag_counts_whichever_way_it_is_written() {
    let flags: Vec<String> =
        ["--max-pods=1", "--v", "--max-pods", "2", "max-pods=3"].map(ToOwned::to_owned).into();
    assert_eq!(values(&flags, "v"), ["--max-pods"]);
    let flags: Vec<String> = ["--max-pods=1", "--max-pods", "2", "max-pods=3"].map(ToOwned::to_owned).into();
    assert_eq!((values(&flags, "max-pods"), value(&flags, "max-pods")), (vec!["1", "2"], Some("2".into())));
    assert_eq!(values(&["--config".to_owned()], "config"), Vec::<&str>::new());
}

#[test]
fn the_arguments_of_kubelite_stand_in_its_file() {
    let file = "# a comment\n--kubeconfig=${SNAP_DATA}/credentials/kubelet.config\n\n  --cert-dir=$SNAP_DATA/certs\n\
        --root-dir=${SNAP_COMMON}/var/lib/kubelet\n--eviction-hard=\"memory.available<100Mi,nodefs.available<1Gi\"\n\
        --max-pods 40\n--x=${SNAP}/y${HOME}\n";
    let path = "/var/snap/microk8s/7229/args/kubelet";
    let tree = Tree::new(&[(path, file)]);
    let argument = format!("--kubelet-args-file={path}");
    let line = ["/snap/microk8s/7229/kubelite", argument.as_str()];
    for (name, expected) in [
        ("kubeconfig", "/var/snap/microk8s/7229/credentials/kubelet.config"),
        ("cert-dir", "/var/snap/microk8s/7229/certs"),
        ("root-dir", "/var/snap/microk8s/common/var/lib/kubelet"),
        ("eviction-hard", "memory.available<100Mi,nodefs.available<1Gi"),
        ("max-pods", "40"),
        ("x", "/snap/microk8s/7229/y"),
    ] {
        assert_eq!(tree.value(&line, name).as_deref(), Some(expected), "{name}");
    }
    let given = tree.given(&line).unwrap().unwrap();
    assert_eq!((given.inside, given.files), (Some(KubeletHost::Kubelite), vec![path.to_owned()]));
    assert!(tree.given(&["/snap/microk8s/7229/kubelite"]).unwrap_err().contains("microk8s/current/args"));
    // Out of the root leads no link.
    std::fs::remove_file(tree.0.path().join(path.trim_start_matches('/'))).unwrap();
    std::os::unix::fs::symlink("../../../../../../../../etc/passwd", tree.0.path().join(&path[1..])).unwrap();
    assert!(tree.given(&line).is_err());
}

#[test]
fn k3s_that_hides_its_command_line_is_read_from_its_unit() {
    let hidden = ["/usr/local/bin/k3s server"];
    let tree = Tree::new(&[]);
    let why = tree.given(&hidden).unwrap_err();
    assert!(why.contains("hides its command line") && why.contains("k3s.service"), "{why}");
    tree.put(
        UNIT,
        "[Service]\nType=notify\nEnvironmentFile=-/etc/systemd/system/%N.service.env\nExecStartPre=-/sbin/modprobe overlay\n\
         ExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--kubelet-arg=max-pods=61' \\\n\t'--kubelet-arg' \\\n\t'kube-reserved=cpu=1' \\\n\n\
         [X-Else]\nExecStart=/bin/false\n",
    );
    assert_eq!(tree.value(&hidden, "max-pods").as_deref(), Some("61"));
    assert_eq!(tree.value(&hidden, "kube-reserved").as_deref(), Some("cpu=1"));
    assert_eq!(tree.given(&hidden).unwrap().unwrap().files, [UNIT]);
    let drop_in = "[Service]\nExecStart=\nExecStart=/usr/local/bin/k3s server --kubelet-arg=max-pods=62\n";
    tree.put("/etc/systemd/system/k3s.service.d/10-x.conf", drop_in);
    assert_eq!(tree.value(&hidden, "max-pods").as_deref(), Some("62"));
    tree.put("/etc/systemd/system/k3s.service.env", "K3S_CONFIG_FILE=\"/x.yaml\"\n");
    tree.put("/x.yaml", "kubelet-arg: image-gc-high-threshold=70\n");
    assert_eq!(tree.value(&hidden, "image-gc-high-threshold").as_deref(), Some("70"));
    // Another program, or a variable, tells nothing.
    for line in ["/usr/bin/other server", "/usr/local/bin/k3s server $ARGS", "/usr/local/bin/k3s kubectl"] {
        tree.put("/etc/systemd/system/k3s.service.d/20-y.conf", &format!("[Service]\nExecStart={line}\n"));
        assert!(tree.given(&hidden).is_err(), "{line}");
    }
}

#[test]
fn files_of_k3s_in_their_order_and_the_command_line_above() {
    let tree = Tree::new(&[
        ("/etc/rancher/k3s/config.yaml", "kubelet-arg: max-pods=10\ntoken: x\n"),
        ("/etc/rancher/k3s/config.yaml.d/20-b.yml", "kubelet-arg+:\n- system-reserved=cpu=1\n- --v=4\n"),
        ("/etc/rancher/k3s/config.yaml.d/10-a.yaml", "kubelet-arg:\n- max-pods=11\n"),
        ("/etc/rancher/k3s/config.yaml.d/30-c.txt", "kubelet-arg: max-pods=99\n"),
    ]);
    let plain = ["/usr/local/bin/k3s", "agent"];
    let max_pods = |line: &[&str]| tree.value(line, "max-pods");
    assert_eq!(max_pods(&plain).as_deref(), Some("11"));
    assert_eq!(tree.value(&plain, "system-reserved").as_deref(), Some("cpu=1"));
    assert_eq!(tree.value(&plain, "v").as_deref(), Some("4"));
    assert_eq!(max_pods(&["k3s", "agent", "--kubelet-arg=--max-pods=12"]).as_deref(), Some("12"));
    tree.put("/other.yaml", "kubelet-arg: max-pods=13\ndata-dir: /data\n");
    assert_eq!(max_pods(&["k3s", "agent", "-c", "/other.yaml"]).as_deref(), Some("13"));
    let kubeconfig = tree.value(&["k3s", "agent", "--config=/other.yaml"], "kubeconfig");
    assert_eq!(kubeconfig.as_deref(), Some("/data/agent/kubelet.kubeconfig"));
    assert!(tree.given(&["k3s", "agent", "-c", "https://x/y"]).unwrap_err().contains("not known"));
    assert_eq!(tree.given(&["k3s", "server", "--disable-agent"]), Ok(None));
    tree.put("/etc/rancher/k3s/config.yaml.d/40-d.yaml", "disable-agent: true\n");
    assert_eq!(tree.given(&["k3s", "server"]), Ok(None));
    tree.put("/etc/rancher/k3s/config.yaml", "a: [b");
    assert!(tree.given(&plain).unwrap_err().contains("config.yaml is no YAML"));
}

#[test]
fn newer_k3s_keeps_configuration_in_a_folder_and_older_in_flags_of_its_own() {
    let tree = Tree::new(&[]);
    let plain = ["/usr/local/bin/k3s", "server"];
    let old = tree.given(&plain).unwrap().unwrap();
    assert!(old.driver_unknown.unwrap().contains("by itself"));
    assert_eq!(value(&old.flags, "eviction-hard").unwrap(), "imagefs.available<5%,nodefs.available<5%");
    assert_eq!(value(&old.flags, "tls-cert-file").unwrap(), "/var/lib/rancher/k3s/agent/serving-kubelet.crt");
    let file = ["k3s", "server", "--kubelet-arg=config=/x.yaml", "--kubelet-arg=eviction-hard=a<1"];
    assert_eq!(tree.value(&file, "config").as_deref(), Some("/x.yaml"));
    assert_eq!(tree.value(&file, "eviction-hard").as_deref(), Some("a<1"));

    tree.put(&format!("{DROP_INS}/00-k3s-defaults.conf"), "cgroupDriver: systemd\n");
    tree.put(&format!("{DROP_INS}/20-cli-config-dir/50-z.conf"), "");
    tree.put(&format!("{DROP_INS}/30-late.conf"), "");
    tree.put(&format!("{DROP_INS}/40-off.yaml"), "");
    let new = tree.given(&file).unwrap().unwrap();
    assert_eq!((new.driver_unknown, value(&new.flags, "config")), (None, None));
    assert_eq!(value(&new.flags, "config-dir").as_deref(), Some(DROP_INS));
    assert_eq!(tree.value(&plain, "eviction-hard"), None);
    let root = File::open(tree.0.path()).unwrap();
    let names: Vec<String> =
        drop_ins(&root, DROP_INS).into_iter().map(|p| p[DROP_INS.len() + 1..].to_owned()).collect();
    assert_eq!(names, ["00-k3s-defaults.conf", "20-cli-config-dir/50-z.conf", "30-late.conf"]);
}

proptest::proptest! {
    #[test]
    fn whatever_is_written_nothing_panics(
        text in "\\PC{0,60}|((kubelet-arg\\+?|data-dir|disable-agent): ?(\\[a=b, 1\\]|x|true|\\{a: b\\})\n){0,4}|([-a-z=$\\{\\}\"' ]{0,20}\n){0,4}",
        program in proptest::option::of("[/a-z]{0,8}"),
    ) {
        let _ = kubelite_flags(&text, &text, program.as_deref());
        let tree = Tree::new(&[("/etc/rancher/k3s/config.yaml", &text)]);
        let _ = tree.given(&["k3s", "server", &text]);
        let _ = values(&[text], "config");
    }
}
