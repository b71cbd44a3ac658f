//! # The house
//!
//! `nsprobe` answers, from one root shell on a Kubernetes worker: *small packets pass, large ones hang:
//! which pod, which hop, which setting?*
//!
//! ```text
//! what the person typed ─► pods ─► netns ─► observe │ probe │ capture ─► diagnose ─► report
//!                          which    held      reads    sends    records     facts →     terminal,
//!                          pod,PID  open      facts    packets  packets     findings    JSON
//! ```
//!
//! One way, no back and forth. A room hands plain data to the next.
//!
//! | room | holds | knows |
//! |---|---|---|
//! | [`facts`] | the shared vocabulary: plain structs with units | nobody |
//! | [`netns`] | a network namespace held open by fd; work in it on threads that die | facts |
//! | [`pods`] | SOURCE → pod, containers, PID, namespace: CRI, and the disk when it hangs | facts, netns |
//! | [`observe`] | read-only: netlink and procfs | facts, netns |
//! | [`probe`] | active: the search without any I/O, the wire formats, the transports | facts, netns |
//! | [`capture`] | libpcap in, pcapng out | facts, netns |
//! | [`diagnose`] | facts → findings: pure rules with stable ids | facts |
//! | [`report`] | facts and findings → people and machines | facts, diagnose |
//! | [`cli`] | one file per command: its arguments, its steps | all |
//!
//! No other arrow; `tests/house.rs` reads the `use crate::` lines and fails on one.

pub mod capture;
pub mod cli;
pub mod diagnose;
pub mod facts;
pub mod netns;
pub mod observe;
pub mod pods;
pub mod probe;
pub mod report;
