//! How a pod hangs on its node, as far as links tell: what is not recognised was not looked at. Whether programs
//! carry the packets past all this is asked by `kernel::check_datapath`.

use super::chain::{is_tunnel, master_of, outward, tunnels, uplink};
use crate::facts::{Check, Link, Namespace};

/// The id of the check.
pub const ID: &str = "pod.attachment";

/// Names the datapath of a pod; one that links and routes do not describe is `not_checked`.
pub fn check_datapath(own: &Namespace, host: &Namespace) -> Check {
    match recognise(own, host) {
        Ok(what) => Check::passed(ID, what),
        Err(why) => Check::not_checked(ID, why),
    }
}

fn recognise(own: &Namespace, host: &Namespace) -> Result<String, String> {
    told_from_outside(host)?;
    if own.netns_inode == host.netns_inode {
        return Ok("the node's own network".into());
    }
    let primary = uplink(own).or_else(|| outward(own, host).map(|(inside, _)| inside).next());
    let Some(link) = primary else {
        return Err(format!("{} has no interface that leads out of it", own.subject));
    };
    match link.kind.as_deref() {
        Some("veth") => veth(own, host, link),
        Some(kind @ ("macvlan" | "ipvlan")) => {
            Ok(format!("{} is a {kind} on an interface of the node", link.name))
        }
        Some("netkit") => {
            Err(format!("{} is a netkit: eBPF programs move its packets, they are not read", link.name))
        }
        Some(other) => Err(format!("{} is of kind {other}, which is not followed further", link.name)),
        None => Err(format!(
            "{} is a device of its own (SR-IOV, or moved into the pod): what it is connected to is not seen from here",
            link.name
        )),
    }
}

fn veth(own: &Namespace, host: &Namespace, link: &Link) -> Result<String, String> {
    let Some((_, outside)) = outward(own, host).find(|(inside, _)| inside.index == link.index) else {
        return Err(format!("the other end of {} is in no namespace that was read", link.name));
    };
    let bridge = master_of(host, outside);
    let mut what = match bridge {
        Some(bridge) if bridge.kind.as_deref() == Some("bridge") => {
            format!("veth {} in bridge {}", outside.name, bridge.name)
        }
        Some(other) => {
            let kind = other.kind.as_deref().unwrap_or("no known kind");
            return Err(format!("{} is a port of {}, which is of {kind}", outside.name, other.name));
        }
        None if outside.master.is_some() => {
            return Err(format!("what {} is a port of was not read", outside.name));
        }
        None => format!("veth {}, routed", outside.name),
    };
    for (tunnel, _) in tunnels(host, bridge) {
        let kind = tunnel.kind.as_deref().unwrap_or("tunnel");
        what.push_str(&format!(", {kind} {}", tunnel.name));
    }
    Ok(what)
}

/// A tunnel that is told from outside where to send.
fn told_from_outside(host: &Namespace) -> Result<(), String> {
    let told = |l: &&Link| l.up && is_tunnel(l) && l.tunnel.is_some_and(|t| t.external);
    match host.links.iter().find(told) {
        Some(link) => Err(format!(
            "{} is told packet by packet where to send, by eBPF or a switch that is not read",
            link.name
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{LinkRef, Outcome, Route, Tunnel};

    fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
        Link {
            index,
            name: name.into(),
            kind: kind.map(Into::into),
            mtu_bytes: 1500,
            up: true,
            ..Link::default()
        }
    }

    fn namespace(subject: &str, inode: u64, links: Vec<Link>) -> Namespace {
        let default = Route {
            destination: "default".into(),
            via: Some([10, 0, 0, 1].into()),
            interface: Some("eth0".into()),
            mtu_bytes: None,
            advmss_bytes: None,
            ..Route::default()
        };
        Namespace {
            subject: subject.into(),
            netns_inode: inode,
            links,
            routes: vec![default],
            unreadable: 0,
            policy_rules: crate::facts::PolicyRules::None,
        }
    }

    fn pod(kind: Option<&str>) -> Namespace {
        let peer =
            LinkRef { netns_inode: Some(1), index: 7, name: Some("vethA".into()), mtu_bytes: Some(1500) };
        namespace("default/web-0", 2, vec![Link { peer: Some(peer), ..link(2, "eth0", kind) }])
    }

    fn host(more: Vec<Link>) -> Namespace {
        let end = Link { master: Some("cni0".into()), ..link(7, "vethA", Some("veth")) };
        let mut links = vec![end, link(3, "cni0", Some("bridge")), link(2, "eth0", None)];
        links.extend(more);
        namespace("host", 1, links)
    }

    #[test]
    fn a_bridge_and_a_routed_veth_are_recognised() {
        let check = check_datapath(&pod(Some("veth")), &host(vec![]));
        assert_eq!((check.outcome, check.why.as_str()), (Outcome::Passed, "veth vethA in bridge cni0"));
        let mut routed = host(vec![]);
        routed.links.iter_mut().for_each(|l| l.master = None);
        let check = check_datapath(&pod(Some("veth")), &routed);
        assert_eq!((check.outcome, check.why.as_str()), (Outcome::Passed, "veth vethA, routed"));
        let node = host(vec![]);
        assert_eq!(check_datapath(&node, &node).why, "the node's own network");
    }

    #[test]
    fn what_links_and_routes_do_not_describe_is_never_passed() {
        let external = Link {
            tunnel: Some(Tunnel { external: true, ..Tunnel::default() }),
            ..link(9, "geneve_sys", Some("geneve"))
        };
        for (own, node, said) in [
            (pod(Some("veth")), host(vec![external]), "packet by packet"),
            (pod(Some("netkit")), host(vec![]), "netkit"),
            (pod(None), host(vec![]), "a device of its own"),
            (namespace("x", 5, vec![]), host(vec![]), "no interface"),
        ] {
            let check = check_datapath(&own, &node);
            assert_eq!(check.outcome, Outcome::NotChecked, "{said}");
            assert!(check.why.contains(said), "{said}: {}", check.why);
        }
        let mut stranger = pod(Some("veth"));
        stranger.links[0].peer = None;
        assert_eq!(check_datapath(&stranger, &host(vec![])).outcome, Outcome::NotChecked);
    }
}
