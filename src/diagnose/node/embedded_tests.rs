//! A kubelet inside of k3s or kubelite.

use super::tests::{case, check};
use crate::facts::{CgroupDriver, KubeletHost, Outcome};

#[test]
fn where_the_kubelet_is_inside_is_told() {
    for (host, words) in [(KubeletHost::K3s, "inside k3s"), (KubeletHost::Kubelite, "inside kubelite")] {
        let (found, _, looked) = case(|c| {
            let processes = c.state.processes.as_mut().unwrap();
            processes.kubelet.as_mut().unwrap().inside = Some(host);
        });
        let check = check(&looked, "node.kubelet");
        assert!(found.is_empty() && check.why.ends_with(words), "{check:?}");
    }
}

#[test]
fn a_driver_that_nobody_states_is_not_taken_for_the_default() {
    let unknown = |c: &mut super::tests::Case| {
        let config = c.state.kubelet.as_mut().unwrap();
        (config.cgroup_driver, config.driver_unknown) = (None, Some("k3s chooses".into()));
    };
    let (found, _, looked) = case(unknown);
    let seen = check(&looked, "node.cgroup_driver");
    assert!(
        found.is_empty() && seen.outcome == Outcome::Passed && seen.why.contains("pods run with systemd")
    );
    for cgroups in [None, Some(CgroupDriver::Cgroupfs)] {
        let (found, _, looked) = case(|c| {
            unknown(c);
            let processes = c.state.processes.as_mut().unwrap();
            processes.pod_cgroups = cgroups.map(|driver| (driver, "x".to_owned())).into_iter().collect();
        });
        let blind = check(&looked, "node.cgroup_driver");
        assert!(found.is_empty() && blind.outcome == Outcome::NotChecked, "{blind:?}");
        assert_eq!(blind.why, "k3s chooses");
    }
}

#[test]
fn what_a_hidden_command_line_may_say_is_not_checked() {
    let (found, _, looked) = case(|c| {
        c.state.kubelet = Err("k3s hides its command line".into());
        c.state.certificates.clear();
    });
    assert_eq!(found, Vec::<&str>::new());
    assert_eq!(check(&looked, "node.kubelet").outcome, Outcome::Passed);
    for id in ["node.cgroup_driver", "node.reserved", "node.eviction", "node.shutdown", "node.certificates"] {
        assert_eq!(check(&looked, id).outcome, Outcome::NotChecked, "{id}");
    }
}
