//! Which process is the kubelet, or has one inside.
//!
//! Sources: k3s `pkg/cli/server/server.go` and `pkg/cli/agent/agent.go` (the title that takes the place of the command
//! line), `cmd/k3s/main.go` (what is executed with which arguments); MicroK8s `wrappers/run-kubelite-with-args`.

/// A program that runs the kubelet inside its own process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubeletHost {
    /// `k3s server`, `k3s agent`.
    K3s,
    /// MicroK8s.
    Kubelite,
}

impl KubeletHost {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::K3s => "k3s",
            Self::Kubelite => "kubelite",
        }
    }
}

/// The process of the running kubelet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubeletProcess {
    /// Arguments of the process: those of the kubelet, or of the program that it is inside of.
    pub arguments: Vec<String>,
    /// The program that it is inside of; `None` when it has a process of its own.
    pub inside: Option<KubeletHost>,
    /// Whether the process has put a title in the place of its arguments: flags are not to be seen there.
    pub hidden: bool,
    /// The systemd service whose cgroup it is in: `k3s.service`.
    pub unit: Option<String>,
}

impl KubeletProcess {
    /// The kubelet that a process with these arguments and this `/proc/PID/cgroup` is or holds. `None` for another
    /// program, for another command of k3s, and in a pod: what is called a kubelet there, with whatever arguments, is
    /// not the node's.
    pub fn of(arguments: Vec<String>, cgroup: &str) -> Option<Self> {
        if cgroup.contains("kubepods") {
            return None;
        }
        // Only a title has its words in one string.
        let title = match arguments.as_slice() {
            [one] if one.contains(' ') => Some(one.split_whitespace().map(ToOwned::to_owned).collect()),
            _ => None,
        };
        let hidden = title.is_some();
        let arguments: Vec<String> = title.unwrap_or(arguments);
        let program = arguments.first()?.rsplit('/').next()?;
        let inside = match program {
            "kubelet" => None,
            "kubelite" => Some(KubeletHost::Kubelite),
            "k3s-server" | "k3s-agent" => Some(KubeletHost::K3s),
            "k3s" => {
                let command = arguments.iter().skip(1).find(|word| !word.starts_with('-'))?;
                ["server", "agent"].contains(&command.as_str()).then_some(KubeletHost::K3s)?;
                Some(KubeletHost::K3s)
            }
            _ => return None,
        };
        Some(Self { arguments, inside, hidden, unit: unit(cgroup) })
    }
}

/// The innermost service of a cgroup path.
fn unit(cgroup: &str) -> Option<String> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut parts = paths.flat_map(|path| path.rsplit('/'));
    parts.find(|part| part.ends_with(".service")).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str], cgroup: &str) -> Option<(Option<KubeletHost>, bool, Option<String>)> {
        let process = KubeletProcess::of(arguments.iter().map(|&a| a.to_owned()).collect(), cgroup)?;
        Some((process.inside, process.hidden, process.unit))
    }

    #[test]
    fn a_kubelet_is_found_inside_of_k3s_and_kubelite_and_not_in_a_pod() {
        let own = "0::/system.slice/k3s.service\n";
        let unit = |name: &str| Some(name.to_owned());
        let k3s = |hidden| Some((Some(KubeletHost::K3s), hidden, unit("k3s.service")));
        assert_eq!(of(&["/usr/local/bin/k3s server"], own), k3s(true));
        assert_eq!(of(&["/usr/local/bin/k3s", "agent", "--token=x"], own), k3s(false));
        assert_eq!(of(&["k3s-server", "--docker"], own), k3s(false));
        assert_eq!(of(&["/usr/local/bin/k3s", "--debug", "server"], own), k3s(false));
        let lite = ["/snap/microk8s/7/kubelite", "--kubelet-args-file=/var/snap/microk8s/7/args/kubelet"];
        let name = "snap.microk8s.daemon-kubelite.service";
        let cgroup = format!("3:cpu:/\n0::/system.slice/{name}\n");
        assert_eq!(of(&lite, &cgroup), Some((Some(KubeletHost::Kubelite), false, unit(name))));
        for (arguments, cgroup) in [
            (
                &["/usr/local/bin/k3s server"][..],
                "0::/kubepods.slice/kubepods-podx.slice/cri-containerd-1.scope",
            ),
            (&lite[..], "4:pids:/kubepods/besteffort/podx/1"),
            (&["/usr/bin/kubelet", "--config=/x"][..], "0::/kubepods.slice/kubepods-podx.slice/x.scope"),
            (&["/usr/local/bin/k3s", "kubectl", "get", "nodes"][..], own),
            (&["k3s"][..], own),
            (&["containerd", "-c", "/x"][..], own),
            (&["k3s-killall.sh"][..], own),
            (&[][..], own),
        ] {
            assert_eq!(of(arguments, cgroup), None, "{arguments:?}");
        }
    }

    #[test]
    fn a_kubelet_of_its_own_is_what_it_was() {
        let rke2 = ["/var/lib/rancher/rke2/data/v1/bin/kubelet", "--volume-plugin-dir=/x"];
        assert_eq!(
            of(&rke2, "0::/system.slice/rke2-server.service"),
            Some((None, false, Some("rke2-server.service".into())))
        );
        assert_eq!(of(&["/var/lib/k0s/bin/kubelet"], ""), Some((None, false, None)));
    }
}
