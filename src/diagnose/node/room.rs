//! What is left: time until work goes on, limits, certificates.

use super::disks::percent;
use super::rules::{
    BLOCKED, CERTIFICATE_ENDS, CERTIFICATE_EXPIRED, CLOCK, INOTIFY_NEAR, LIMIT_NEAR, PRESSURE,
};
use super::{Looked, NodeView, disks};
use crate::facts::{Evidence, Finding, Limit, LimitKind};

/// All work stands still for so much of a minute, percent.
const STILL: [(&str, f64); 2] = [("io", 50.0), ("memory", 10.0)];
const DAY_S: i64 = 86_400;

pub(super) fn check(view: NodeView<'_>, looked: &mut Looked) {
    pressure(view, looked);
    blocked(view, looked);
    disks::fullness(view, looked);
    disks::latency(view, looked);
    limits(view, looked);
    certificates(view, looked);
    clock(view, looked);
}

fn pressure(view: NodeView<'_>, looked: &mut Looked) {
    let mut findings = Vec::new();
    let mut unread = None;
    let mut well = Vec::new();
    for (name, seen) in &view.state.pressure {
        match seen {
            Err(why) => unread = Some(why.clone()),
            Ok(pressure) => {
                well.push(format!("{name} {:.0} %", pressure.some));
                let most = STILL.iter().find(|(of, _)| of == name).map(|(_, most)| *most);
                if most.is_some_and(|most| pressure.full >= most) {
                    let source = format!("/proc/pressure/{name}");
                    let evidence =
                        vec![Evidence::new(format!("{name} full avg60"), pressure.full, "percent", source)];
                    let summary =
                        format!("for {:.0} % of the last minute all work waited for {name}", pressure.full);
                    findings.push(PRESSURE.finding("host", summary, evidence, PRESSURE.fix));
                }
            }
        }
    }
    looked.add("node.pressure", unread, findings, format!("some work waited for: {}", well.join(", ")));
}

fn blocked(view: NodeView<'_>, looked: &mut Looked) {
    let (blocked, unread) = match &view.state.processes {
        Ok(processes) => (processes.blocked.as_slice(), None),
        Err(why) => (&[][..], Some(why.clone())),
    };
    let evidence: Vec<Evidence> = blocked
        .iter()
        .take(20)
        .map(|b| {
            let wchan = b.wchan.as_deref().unwrap_or("not told");
            let what = format!("{} ({}) waits in", b.name, b.pid);
            let value = match waits_for(wchan) {
                Some(for_what) => format!("{wchan}: {for_what}"),
                None => wchan.to_owned(),
            };
            Evidence::text(what, value, format!("/proc/{}/wchan", b.pid))
        })
        .collect();
    let finding = |evidence: Vec<Evidence>| {
        let summary = match blocked {
            [one] => format!("{} ({}) is blocked in the kernel", one.name, one.pid),
            many => format!("{} processes are blocked in the kernel", many.len()),
        };
        BLOCKED.finding("host", summary, evidence, BLOCKED.fix)
    };
    let findings: Vec<Finding> = (!evidence.is_empty()).then(|| finding(evidence)).into_iter().collect();
    looked.add("node.blocked", unread, findings, "no process stays in state D".into());
}

/// What a function of the kernel that processes wait in is about.
fn waits_for(wchan: &str) -> Option<&'static str> {
    const ABOUT: &[(&str, &str)] = &[
        ("rpc_", "an NFS server"),
        ("nfs", "an NFS server"),
        ("cifs", "an SMB server"),
        ("smb", "an SMB server"),
        ("ceph", "Ceph"),
        ("fuse", "a FUSE program"),
        ("cgroup", "a lock on cgroups"),
        ("jbd2", "the journal of ext4, and so a disk"),
        ("ext4", "a disk (ext4)"),
        ("xfs", "a disk (XFS)"),
        ("xlog", "a disk (XFS)"),
        ("btrfs", "a disk (Btrfs)"),
        ("blk_", "a disk"),
        ("io_schedule", "a disk"),
        ("folio_wait", "a disk"),
        ("wait_on_page", "a disk"),
        ("submit_bio_wait", "a disk"),
        ("wb_wait", "a disk"),
    ];
    ABOUT.iter().find(|(part, _)| wchan.contains(part)).map(|(_, about)| *about)
}

fn limits(view: NodeView<'_>, looked: &mut Looked) {
    let limits = &view.state.limits;
    let near = limits.iter().filter(|l| l.limit > 0 && percent(l.used, l.limit) >= 90);
    let findings = near
        .map(|l| {
            let (rule, unit) = match l.kind {
                LimitKind::Tasks => (LIMIT_NEAR, "threads"),
                LimitKind::Inotify => (INOTIFY_NEAR, "inotify"),
            };
            let evidence = vec![
                Evidence::new(l.what.clone(), l.used, unit, l.counted),
                Evidence::new("as many may be", l.limit, unit, l.source.clone()),
            ];
            rule.finding("host", format!("{} are used", in_words(l)), evidence, rule.fix)
        })
        .collect();
    let unread = limits.is_empty().then(|| "the limits could not be read".to_owned());
    let well: Vec<String> = limits.iter().map(in_words).collect();
    looked.add("node.limits", unread, findings, well.join(", "));
}

fn in_words(limit: &Limit) -> String {
    let least = if limit.at_least { "at least " } else { "" };
    format!("{least}{} of {} {} ({})", limit.used, limit.limit, limit.what, limit.source)
}

fn certificates(view: NodeView<'_>, looked: &mut Looked) {
    let mut findings = Vec::new();
    let mut unread =
        view.state.certificates.is_empty().then(|| "no certificate of a kubelet was found".to_owned());
    let mut well = Vec::new();
    for certificate in &view.state.certificates {
        let path = &certificate.path;
        let (from, until) = match &certificate.life {
            Ok(life) => *life,
            Err(why) => {
                unread = Some(format!("{path}: {why}"));
                continue;
            }
        };
        let left = until.saturating_sub(view.now);
        let days = left.div_euclid(DAY_S);
        let evidence = || vec![Evidence::new("days left", days, "days", path.clone())];
        let over = left <= 0 || view.now < from;
        if over && certificate.client {
            let summary = if left <= 0 {
                format!("the kubelet's client certificate in {path} expired {} days ago", -days)
            } else {
                format!("the kubelet's client certificate in {path} is not valid yet: is the clock right?")
            };
            findings.push(CERTIFICATE_EXPIRED.finding(
                "kubelet",
                summary,
                evidence(),
                CERTIFICATE_EXPIRED.fix,
            ));
        } else if over || left < until.saturating_sub(from) / 10 {
            let summary = format!("the certificate in {path} has {days} days left");
            findings.push(CERTIFICATE_ENDS.finding("kubelet", summary, evidence(), CERTIFICATE_ENDS.fix));
        }
        well.push(format!("{path} {days} days"));
    }
    looked.add("node.certificates", unread, findings, well.join(", "));
}

fn clock(view: NodeView<'_>, looked: &mut Looked) {
    let mut findings = Vec::new();
    if view.state.clock_synchronised == Ok(false) {
        let evidence = vec![Evidence::text("STA_UNSYNC", true, "adjtimex")];
        findings.push(CLOCK.finding("host", "the kernel's clock is not synchronised", evidence, CLOCK.fix));
    }
    let unread = match &view.state.clock_synchronised {
        Err(why) => Some(why.clone()),
        Ok(false) => Some("the kernel does not know whether its clock is right".into()),
        Ok(true) => None,
    };
    looked.add("node.clock", unread, findings, "synchronised".into());
}
