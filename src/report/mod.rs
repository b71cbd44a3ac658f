//! Facts and findings → people and machines. Nothing else writes to standard output.

mod capture;
mod cluster;
mod diagnose;
mod ipam;
mod json;
mod json_format;
mod links;
mod links_table;
mod logs;
mod mtu;
mod node;
mod out;
mod pods;
mod rules;
mod sockets;
mod text;
mod why;

pub use capture::{CaptureReport, render_capture};
pub use cluster::{ClusterDocument, ClusterHead, ClusterPodEntry, UnscheduledEntry, render_cluster};
pub use diagnose::{DiagnoseReport, DiagnoseTarget, PathRow, render_diagnose};
pub use ipam::{IpamDocument, IpamNetworkEntry, IpamRangeEntry, IpamView, render_ipam};
pub use json::{Document, ErrorDocument, document};
pub use json_format::write_json;
pub use links::{LinksDocument, LinksView, render_links};
pub use logs::{LogPrinter, LogView};
pub use mtu::{MtuComparison, MtuReport, MtuSource, MtuTarget, render_change, render_comparison, render_mtu};
pub use node::{NodeDocument, NodeEvent, render_node, render_node_event};
pub use out::{Out, Paint, is_closed_pipe};
pub use pods::{PodsDocument, PodsView, render_pods};
pub use rules::{RulesDocument, render_rules};
pub use sockets::{SocketNamespace, SocketsDocument, SocketsView, render_sockets};
pub use text::{duration_ms, findings, sanitize};
pub use why::{WhyAttempt, WhyContainer, WhyDocument, WhyView, render_why};
