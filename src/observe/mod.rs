//! Read-only: links, addresses, routes and counters of network namespaces, over netlink and procfs.
//!
//! A socket stays in the namespace it was opened in. Where many namespaces are read, one plain thread
//! enters one after the other and dies; what is asked once is asked by `rtnetlink` over a socket that was
//! opened inside.

mod cni_config;
mod counters;
mod egress;
mod error;
mod files;
mod forwarding;
pub mod ipam;
pub mod journal;
mod kernel;
mod kubelet;
mod link;
mod link_state;
pub mod logs;
mod namespace;
mod neighbour;
pub mod node;
mod offload;
pub mod oom;
mod peers;
mod policy;
#[cfg(test)]
mod recorded;
mod route;
mod route_get;
mod runtimes;
mod service;
mod settings;
mod socket;
mod sockets;
mod tunnel;
mod units;
mod ways_back;
mod wire;
mod wireguard;

/// The recorded node and two of its pods, for tests of what comes after.
#[cfg(test)]
pub(crate) fn recorded_namespaces() -> Vec<crate::facts::Namespace> {
    recorded::joined()
}

pub use cni_config::{parse_cni, read_cni_config};
pub use counters::{Counter, Rise, Snapshot, diff, read_counters};
pub use error::{NoRoute, ObserveError};
pub use files::text as read_text;
pub use kernel::read_kernel_state;
pub use link_state::read_link_state;
pub use namespace::{ReadOptions, Reading, join_readings, read_here, read_namespaces, read_with_state};
pub use neighbour::{Neighbour, read_neighbour};
pub use route_get::{CachedMtu, RouteKind, RouteLookup, cached_mtu, route_get};
pub use service::{ServiceProxy, ipvs_answers, service_proxy};
pub use settings::{PathSettings, read_settings};
pub use sockets::{
    MOST_SOCKETS, Owners, SocketList, SocketQuery, Whose, decode_sockets, read_many_sockets, read_owners,
    read_sockets,
};

pub use units::read_node_units;

pub mod resolve;
