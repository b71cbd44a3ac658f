//! libpcap in, pcapng out: packets of several namespaces at once.
//!
//! ```text
//! interfaces ─► open ─► run ─► order ─► output ─► sink
//! which         in the  poll   by time  pcapng    file, pipe,
//!               netns                   or lines  socket
//! ```
//! Handles are opened inside the namespace and used outside of it. Nothing on the node is changed: interfaces
//! are not put into promiscuous mode, and every privilege is given up before the first packet is looked at. What
//! a ring needs later, its next file, comes from a small process beside it ([`split`]) that never sees a packet.

mod decode;
mod error;
mod file;
mod filter;
mod interfaces;
mod keeper;
mod layers;
mod lines;
mod link_dump;
mod open;
mod order;
mod output;
mod pcapng;
mod privileges;
mod program;
mod rebind;
mod remarks;
mod ring;
mod ring_files;
mod room;
mod run;
mod segments;
mod sink;
mod ssh;
mod watch;
mod words;

pub use decode::decode_line;
pub use error::CaptureError;
pub use file::{FileError, Owner, open_capture_file};
pub use filter::{FilterError, Inside, PointFilter, both, check_filter};
pub use keeper::{Ended, Files, Role, split};
pub use lines::{Stamp, View};
pub use open::{Place, Point, Settings, Wish, find_interfaces, find_macs, open_points};
pub use output::{Output, Seen};
pub use privileges::{ask_for_share, drop_privileges};
pub use ring::{FileFacts, Ring, Supply};
pub use ring_files::RingFiles;
pub use room::{Leave, Room};
pub use run::{End, Limits, Progress, Summary, run};
pub use sink::{Sink, SinkError};
pub use ssh::{SshConnection, find_ssh_connection};
pub use watch::{Until, Watch};
pub use words::{Network, Words, tcp_flags, tunnel_errors};
