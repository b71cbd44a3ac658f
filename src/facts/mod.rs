//! The shared vocabulary: plain data with units and provenance. Knows nobody.
//!
//! `None` is *unknown*, never zero. Where a struct is part of a JSON document its field names are the
//! contract's keys.

mod capture;
mod check;
mod cluster;
mod cni;
mod connect;
mod container_id;
mod finding;
mod ipam;
mod kernel;
mod kubelet;
mod link;
mod log;
mod name_server;
mod node;
mod node_log;
mod path;
mod pod;
mod socket;
mod time;
mod unit;
mod why;

pub use capture::{CapturePoint, PointKind};
pub use check::{Check, Health, Outcome};
pub use cluster::{
    ClusterHere, ClusterNode, ClusterPod, ClusterState, Lack, PublishedMtu, Unscheduled, Unseen,
};
pub use cni::{CniConfig, CniFile, CniNetwork, CniPlugin, MtuFile, NewPods};
pub use connect::{Connect, ConnectOutcome};
pub use container_id::ContainerId;
pub use finding::{Evidence, Finding, Severity};
pub use ipam::{Holders, IpamNetwork, IpamRange, IpamState, MaxPods, Reservation};
pub use kernel::{
    Conntrack, ForwardingEntry, InterfaceSettings, KernelCounters, KernelSettings, KernelState, KernelTables,
    NeighbourEntry, NeighbourState, RememberedMtu, Seen, TableUsage,
};
pub use kubelet::{KubeletHost, KubeletProcess};
pub use link::{
    Counters, DontFragment, Egress, Link, LinkRef, LinkState, Namespace, Offloads, PolicyRules, Route, Tunnel,
};
pub use log::{LogPiece, LogStream};
pub use name_server::{DnsOutcome, LargeAnswer, NameLookup, NameResolution, NameServer};
pub use node::{
    Blocked, CallTime, CertificateLife, CgroupDriver, DiskIo, DiskUse, KubeletConfig, Limit, LimitKind,
    NodeProcesses, NodeState, PluginBinary, Pressure, RuntimeConfig, RuntimeWord, Stated,
};
pub use node_log::{NodeLog, NodeLogEntry};
pub use path::{
    Bounds, Hop, Method, Narrowing, PathNote, PathResult, ProbeCounts, Reverse, ReverseVerdict, Verdict, Word,
};
pub use pod::{
    Container, ContainerState, Degraded, DegradedReason, ListSource, PidSource, Pod, PodList, PodState,
};
pub use socket::{
    MeasuredPath, Protocol, Socket, SocketDetail, SocketProcess, SocketState, SocketTimer, TcpDetail,
};
pub use time::{local_date, local_seconds, milliseconds, rfc3339, unix_nanoseconds, unix_seconds};
pub use unit::{NodeProcess, NodeUnits, UnitState};
pub use why::{
    Attempt, Cause, ContainerHistory, KubeletAct, KubeletWord, MemoryUse, OomKill, OomVictim, PodHistory,
};
