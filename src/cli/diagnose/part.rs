//! What a diagnosis is made of: each part is asked for on a thread of its own, and says itself when it could not look.

use super::paths::{Measured, Obstacle, Path};
use crate::cli::elsewhere::Elsewhere;
use crate::cli::target::{self, ResolvedTarget, TargetError};
use crate::facts::{CniConfig, Connect, ConnectOutcome, KernelState, NameLookup, NameResolution, Namespace};
use crate::netns::NetNs;
use crate::observe::resolve::{Family, ResolvConf, ServerQuestions, check_servers};
use crate::observe::{
    Owners, ReadOptions, SocketList, SocketQuery, Whose, read_cni_config, read_kernel_state, read_namespaces,
    read_owners, read_sockets,
};
use crate::pods::{self, Source};
use crate::probe::Target;
use std::io;
use std::net::{IpAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// For one question to a name server.
const DNS_PATIENCE: Duration = Duration::from_secs(1);
/// For a connection: the kernel sends a lost SYN again after one second, and after two more.
const CONNECT_PATIENCE: Duration = Duration::from_millis(3500);
/// With less of it silence is no answer.
const ENOUGH: Duration = Duration::from_millis(1500);

/// What every part is given.
pub(super) struct Place {
    pub(super) options: pods::Options,
    pub(super) source: Source,
    /// The node's own namespace, or why it cannot be looked at.
    pub(super) host: Result<Source, String>,
    /// When everything has to have ended.
    pub(super) end: Instant,
}

impl Place {
    /// Whether SOURCE lives in the node's own namespace.
    pub(super) fn is_host(&self) -> bool {
        self.source.host_network
            || self.host.as_ref().is_ok_and(|h| h.netns.inode() == self.source.netns.inode())
    }

    /// Whether the namespace has sockets of others beside those of the pod.
    pub(super) fn shares_sockets(&self) -> bool {
        self.source.host_network && self.source.pod.is_some()
    }

    /// What is left of the deadline, with a little to tell it in.
    pub(super) fn left(&self) -> Duration {
        let end = self.end.checked_sub(Duration::from_millis(150)).unwrap_or(self.end);
        end.saturating_duration_since(Instant::now())
    }
}

/// One part that came.
pub(super) enum Part {
    Target(Result<ResolvedTarget, TargetError>, f64),
    Links(Links),
    Sockets(Result<SocketList, String>),
    Owners(Result<Owners, String>),
    Names(Result<NameResolution, String>),
    Connect(Connect),
    Kernel(Box<Kernel>),
    Config(CniConfig),
    Path(Path, Box<Result<Measured, Obstacle>>),
    #[cfg(test)]
    Remark,
}

/// Links and routes of SOURCE and of the node.
pub(super) struct Links {
    pub(super) own: Result<Namespace, String>,
    /// The same as `own` for what lives in the node's namespace.
    pub(super) host: Result<Namespace, String>,
}

/// What the kernel says of SOURCE's namespace and of the node's.
pub(super) struct Kernel {
    /// `None` for what lives in the node's namespace.
    pub(super) own: Option<Result<KernelState, String>>,
    pub(super) host: Result<KernelState, String>,
}

/// Looks TARGET up, and how long that took, ms.
pub(super) fn find_target(place: &Place, text: &str, family: Option<Family>, elsewhere: &Elsewhere) -> Part {
    let start = Instant::now();
    let found = target::find(&place.options, &place.source, text, family, elsewhere);
    Part::Target(found, start.elapsed().as_secs_f64() * 1000.0)
}

pub(super) fn read_links(place: &Place) -> Part {
    let subject = if place.is_host() { "host" } else { &place.source.label };
    let mut open: Vec<(&str, &NetNs)> = Vec::new();
    if !place.is_host() {
        open.extend(place.host.as_ref().ok().map(|host| ("host", &host.netns)));
    }
    open.push((subject, &place.source.netns));
    let mut read = read_namespaces(&open, ReadOptions { all_addresses: true, ..ReadOptions::default() })
        .into_iter()
        .map(|(_, answer)| answer.map_err(|error| error.to_string()));
    let missing = || Err("nothing was read".to_owned());
    let first = read.next().unwrap_or_else(missing);
    let (host, own) = match (read.next(), &place.host) {
        (Some(own), _) => (first, own),
        (None, Err(why)) if !place.is_host() => (Err(why.clone()), first),
        (None, _) => (first.clone(), first),
    };
    Part::Links(Links { own, host })
}

/// Settings, counters and tables of both namespaces, at this moment.
pub(super) fn read_kernel(place: &Place) -> Kernel {
    let read =
        |subject: &str, netns: &NetNs| read_kernel_state(subject, netns).map_err(|error| error.to_string());
    let source = &place.source;
    if place.is_host() {
        return Kernel { own: None, host: read("host", &source.netns) };
    }
    let host = match &place.host {
        Ok(host) => read("host", &host.netns),
        Err(why) => Err(why.clone()),
    };
    Kernel { own: Some(read(&source.label, &source.netns)), host }
}

/// What the CNI is told to give to new pods.
pub(super) fn read_config(place: &Place) -> Part {
    Part::Config(read_cni_config(&place.options.host_root, None))
}

/// The sockets of the namespace, before anything of this diagnosis opens one there.
pub(super) fn read_all_sockets(place: &Place) -> Part {
    let list = read_sockets(&place.source.netns, SocketQuery::default());
    Part::Sockets(list.map_err(|error| error.to_string()))
}

/// Who holds them; for a pod in the node's own network those that its processes hold.
pub(super) fn read_holders(place: &Place) -> Part {
    let proc_root = place.options.host_path("/proc");
    if !place.shares_sockets() {
        let inode = [place.source.netns.inode()];
        return Part::Owners(Ok(read_owners(&proc_root, Whose::Namespaces(&inode))));
    }
    let Some(pod) = &place.source.pod else { return Part::Owners(Ok(Owners::default())) };
    let processes = pods::processes_of(&place.options, pod).map_err(|error| error.to_string());
    Part::Owners(processes.map(|processes| read_owners(&proc_root, Whose::Processes(&processes))))
}

/// Asks the name servers of SOURCE's resolv.conf.
pub(super) fn ask_names(place: &Place, lookup: Option<NameLookup>, large: Option<String>) -> Part {
    Part::Names(names(place, lookup, large))
}

fn names(place: &Place, lookup: Option<NameLookup>, large: Option<String>) -> Result<NameResolution, String> {
    let file = pods::resolv_conf_file(&place.options, &place.source).map_err(|error| error.to_string())?;
    if file.text.is_none() && file.odd.is_none() {
        return Err(format!("no /etc/resolv.conf of {} could be found", place.source.label));
    }
    let conf = ResolvConf::parse(file.text.as_deref().unwrap_or_default());
    let mut facts = NameResolution {
        named: conf.named,
        ignored_servers: conf.ignored_servers,
        search: conf.search.clone(),
        ndots: u32::try_from(conf.ndots).unwrap_or(0),
        timeout_ms: u64::try_from(conf.timeout.as_millis()).unwrap_or(u64::MAX),
        odd: file.odd,
        lookup,
        ..NameResolution::default()
    };
    // Without the file nobody has named a server, and none is asked.
    if file.text.is_none() {
        return Ok(facts);
    }
    // Every cluster has this name, and its DNS knows it without asking anybody.
    let cluster = conf.search.iter().find(|domain| domain.starts_with("svc."));
    let questions = ServerQuestions {
        name: cluster.map(|domain| format!("kubernetes.default.{domain}")).unwrap_or_default(),
        large,
        patience: DNS_PATIENCE,
        end: place.end,
    };
    facts.servers =
        check_servers(&place.source.netns, &conf, &questions).map_err(|error| error.to_string())?;
    Ok(facts)
}

/// Why name resolution does not apply to a SOURCE, if it does not: a bare namespace has no files.
pub(super) fn has_no_names(place: &Place) -> bool {
    let Some(path) = place.source.label.strip_prefix("netns:") else { return false };
    let Some(name) = path.rsplit('/').next() else { return true };
    let own: PathBuf = place.options.host_path(format!("/etc/netns/{name}/resolv.conf"));
    !place.is_host() && !own.exists()
}

/// Opens a connection to the port that was named, and closes it at once.
pub(super) fn connect(place: &Place, address: IpAddr, scope_id: u32, port: u16) -> Part {
    let to = Target { address, scope_id }.socket_address(port);
    let patience = CONNECT_PATIENCE.min(place.left());
    let not_tried =
        |why: String| Part::Connect(Connect { address, port, outcome: ConnectOutcome::NotTried(why) });
    if patience.is_zero() {
        return not_tried("the time was up".into());
    }
    let start = Instant::now();
    let result = match place.source.netns.run(|| TcpStream::connect_timeout(&to, patience)) {
        Ok(result) => result.map(drop),
        Err(error) => return not_tried(error.to_string()),
    };
    let ms = start.elapsed().as_secs_f64() * 1000.0;
    let outcome = match result {
        Ok(()) => ConnectOutcome::Open { ms },
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                ConnectOutcome::Refused { ms }
            }
            // A SYN that is lost is sent again after a second: less tells nothing.
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock if patience < ENOUGH => {
                return not_tried(format!(
                    "no answer within {} ms, and the time was up",
                    patience.as_millis()
                ));
            }
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ConnectOutcome::Silent { ms },
            _ => ConnectOutcome::NoWay(error.to_string()),
        },
    };
    Part::Connect(Connect { address, port, outcome })
}
