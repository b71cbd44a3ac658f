//! Which socket is the runtime's: the option, the environment, crictl's file, the kubelet's, the known ones.

use super::hostfs::HostFs;
use super::proc::Proc;
use serde::Deserialize;

/// Sockets of the known runtimes, in the order in which they are asked.
pub(super) const KNOWN: &[&str] = &[
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
];

/// Where kubelets keep their own state unless they are told otherwise.
const KUBELETS: &[&str] = &[
    "/var/lib/kubelet",
    "/var/lib/rancher/k3s/agent",
    "/var/lib/rancher/rke2/agent",
    "/var/lib/k0s/kubelet",
    "/var/snap/microk8s/common/var/lib/kubelet",
];

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoints {
    /// One that was named: by whom, and the path of its socket.
    Named {
        /// `--runtime-endpoint`, `/etc/crictl.yaml`.
        by: &'static str,
        /// Path of the socket on the node.
        path: String,
    },
    /// Those of the known sockets that are there; the first that answers.
    Known(Vec<String>),
    /// The option or the environment names something that is no unix socket.
    Unusable {
        /// Who named it.
        by: &'static str,
        /// What was named.
        value: String,
    },
}

/// Path of the socket that `unix:///run/x.sock`, `unix:/run/x.sock` or `/run/x.sock` names.
pub(super) fn socket_path(endpoint: &str) -> Option<String> {
    let rest = endpoint.strip_prefix("unix:").unwrap_or(endpoint);
    let rest = if rest.starts_with("//") { rest.trim_start_matches('/') } else { rest.strip_prefix('/')? };
    (!rest.is_empty()).then(|| format!("/{rest}"))
}

/// Finds the endpoint as the contract says. What a person named (`option`, `environment`) is taken as it is;
/// what a file names is taken when its socket is there, since such files outlive the runtime they name.
///
/// The search for a kubelet among thousands of processes takes as long as the runtime takes to answer: `meanwhile`
/// is called with the known sockets while it goes on, to be asked in the hope that no kubelet names another, and
/// says whether one answered. Where no kubelet has ever been and there is but one socket, that is enough.
pub(super) fn find(
    fs: &HostFs,
    proc: &Proc,
    option: Option<&str>,
    environment: Option<&str>,
    mut meanwhile: impl FnMut(&Endpoints) -> bool,
) -> Endpoints {
    let environment = environment.filter(|value| !value.is_empty());
    for (by, value) in [("--runtime-endpoint", option), ("CONTAINER_RUNTIME_ENDPOINT", environment)] {
        if let Some(value) = value {
            return match socket_path(value) {
                Some(path) => Endpoints::Named { by, path },
                None => Endpoints::Unusable { by, value: value.to_owned() },
            };
        }
    }
    let there = |text: Option<String>| socket_path(text.as_deref()?).filter(|path| fs.exists(path));
    let named = |by, text| there(text).map(|path| Endpoints::Named { by, path });
    let crictl = || crictl_endpoint(&fs.read_text("/etc/crictl.yaml")?);
    let kubelet = || kubelet_endpoint(&fs.read_text("/var/lib/kubelet/config.yaml")?);
    let kubeadm =
        || flag_value(fs.read_text("/var/lib/kubelet/kubeadm-flags.env")?.split(['"', '\'', ' ', '\n', '=']));
    if let Some(found) =
        named("/etc/crictl.yaml", crictl()).or_else(|| named("/var/lib/kubelet/config.yaml", kubelet()))
    {
        return found;
    }
    let known: Vec<String> =
        KNOWN.iter().filter(|path| fs.exists(path)).map(|&path| path.to_owned()).collect();
    let plain = known.len() == 1 && !KUBELETS.iter().any(|path| fs.exists(path));
    let known = Endpoints::Known(known);
    if plain && meanwhile(&known) {
        return known;
    }
    let argument = std::thread::scope(|scope| {
        let search = scope.spawn(|| kubelet_argument(fs, proc));
        if !plain {
            meanwhile(&known);
        }
        search.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    named("the kubelet's command line", argument)
        .or_else(|| named("/var/lib/kubelet/kubeadm-flags.env", kubeadm()))
        .unwrap_or(known)
}

fn crictl_endpoint(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Crictl {
        #[serde(rename = "runtime-endpoint")]
        endpoint: Option<String>,
    }
    serde_norway::from_str::<Crictl>(text).ok()?.endpoint.filter(|e| !e.is_empty())
}

fn kubelet_endpoint(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Kubelet {
        #[serde(rename = "containerRuntimeEndpoint")]
        endpoint: Option<String>,
    }
    serde_norway::from_str::<Kubelet>(text).ok()?.endpoint.filter(|e| !e.is_empty())
}

/// From the running kubelet: its flag, or the configuration file that it names.
fn kubelet_argument(fs: &HostFs, proc: &Proc) -> Option<String> {
    // Flags of the program around a kubelet are not the kubelet's.
    let arguments = proc.kubelet().filter(|kubelet| kubelet.inside.is_none())?.arguments;
    let words = || arguments.iter().flat_map(|a| a.splitn(2, '='));
    flag_value(words()).or_else(|| {
        let config = words().skip_while(|word| word.trim_start_matches('-') != "config").nth(1)?;
        kubelet_endpoint(&fs.read_text(config)?)
    })
}

fn flag_value<'a>(words: impl Iterator<Item = &'a str>) -> Option<String> {
    words
        .skip_while(|word| *word != "--container-runtime-endpoint")
        .nth(1)
        .filter(|value| !value.is_empty())
        .map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_socket_is_named_in_three_ways() {
        for name in ["unix:///run/x.sock", "unix:/run/x.sock", "/run/x.sock"] {
            assert_eq!(socket_path(name).as_deref(), Some("/run/x.sock"), "{name}");
        }
        for name in ["tcp://127.0.0.1:1", "npipe:////./pipe/x", "", "unix://", "unix:", "run/x.sock", "/"] {
            assert_eq!(socket_path(name), None, "{name}");
        }
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_order_is_the_contracts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let fs = HostFs::open(root).unwrap();
        let found = |option, env| match find(&fs, &Proc::new(fs.proc_root()), option, env, |_| false) {
            Endpoints::Named { by, path } => format!("{by} {path}"),
            Endpoints::Known(paths) => paths.join(" "),
            Endpoints::Unusable { by, value } => format!("{by}! {value}"),
        };
        assert_eq!(found(None, None), "");
        put(root, "run/crio/crio.sock", "");
        put(root, "run/containerd/containerd.sock", "");
        assert_eq!(found(None, None), "/run/containerd/containerd.sock /run/crio/crio.sock");
        put(root, "run/env.sock", "");
        let env = "KUBELET_KUBEADM_ARGS=\"--v=2 --container-runtime-endpoint=unix:///run/env.sock --x\"\n";
        put(root, "var/lib/kubelet/kubeadm-flags.env", env);
        assert_eq!(found(None, None), "/var/lib/kubelet/kubeadm-flags.env /run/env.sock");
        put(root, "run/flag.sock", "");
        put(root, "proc/9/comm", "kubelet\n");
        put(
            root,
            "proc/9/cmdline",
            "/usr/bin/kubelet\0--container-runtime-endpoint\0unix:///run/flag.sock\0",
        );
        assert_eq!(found(None, None), "the kubelet's command line /run/flag.sock");
        put(root, "run/kubelet.sock", "");
        put(root, "var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: unix:///run/kubelet.sock\n");
        assert_eq!(found(None, None), "/var/lib/kubelet/config.yaml /run/kubelet.sock");
        put(root, "etc/crictl.yaml", "runtime-endpoint: unix:///run/gone.sock\ntimeout: 30\n");
        assert_eq!(found(None, None), "/var/lib/kubelet/config.yaml /run/kubelet.sock", "its socket is gone");
        put(root, "run/gone.sock", "");
        assert_eq!(found(None, None), "/etc/crictl.yaml /run/gone.sock");
        let env = Some("unix:///run/e.sock");
        assert_eq!(found(None, env), "CONTAINER_RUNTIME_ENDPOINT /run/e.sock");
        assert_eq!(found(Some("/run/o.sock"), env), "--runtime-endpoint /run/o.sock");
        assert_eq!(found(Some("tcp://1"), env), "--runtime-endpoint! tcp://1");
        put(root, "etc/crictl.yaml", "runtime-endpoint: [1, 2\n\t:");
        assert_eq!(found(None, None), "/var/lib/kubelet/config.yaml /run/kubelet.sock", "broken YAML");
    }

    #[test]
    fn a_kubelet_is_looked_for_unless_none_has_been_here_and_the_only_runtime_answers() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "proc/9/comm", "kubelet\n");
        put(root, "proc/9/cmdline", "kubelet\0--container-runtime-endpoint=/run/k.sock\0");
        put(root, "run/k.sock", "");
        put(root, "run/crio/crio.sock", "");
        let fs = HostFs::open(root).unwrap();
        let found = |answers| find(&fs, &Proc::new(fs.proc_root()), None, None, |_| answers);
        let known = Endpoints::Known(vec!["/run/crio/crio.sock".into()]);
        let kubelets = Endpoints::Named { by: "the kubelet's command line", path: "/run/k.sock".into() };
        assert_eq!(found(true), known);
        assert_eq!(found(false), kubelets, "the socket is no runtime's");
        put(root, "run/containerd/containerd.sock", "");
        assert_eq!(found(true), kubelets, "two to choose from");
        std::fs::remove_file(root.join("run/containerd/containerd.sock")).unwrap();
        put(root, "var/lib/kubelet/x", "");
        assert_eq!(found(true), kubelets, "a kubelet has been here");
    }

    #[test]
    fn the_kubelets_own_config_argument_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "proc/9/comm", "kubelet\n");
        put(root, "proc/9/cmdline", "kubelet\0--config=/opt/k.yaml\0");
        put(root, "opt/k.yaml", "containerRuntimeEndpoint: /run/k.sock\n");
        put(root, "run/k.sock", "");
        let fs = HostFs::open(root).unwrap();
        let found = find(&fs, &Proc::new(fs.proc_root()), None, None, |_| false);
        assert_eq!(found, Endpoints::Named { by: "the kubelet's command line", path: "/run/k.sock".into() });
    }
}
