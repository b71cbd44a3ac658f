//! Active: the path-MTU search, the wire formats, the transports.

mod drive;
mod error;
mod icmp;
mod onlooker;
mod scout;
pub mod search;
mod socket;
mod tcp;
mod transport;
mod udp;
pub mod wire;

pub use drive::drive;
pub use error::ProbeError;
pub use icmp::Echo;
pub use onlooker::Onlooker;
pub use scout::{AFTER_SCOUTS, Scouts, ask_sizes, scout};
pub use tcp::{TcpProbe, TcpWay, read_segment};
pub use transport::{Target, Transport};
pub use udp::UdpProbe;
