//! Active: the path-MTU search, the wire formats, the transports.

mod drive;
mod icmp;
pub mod search;
mod transport;
pub mod wire;

pub use drive::drive;
pub use icmp::{Echo, ProbeError, Target};
pub use transport::Transport;
