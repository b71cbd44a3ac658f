//! libpcap in, pcapng out: packets of several namespaces at once.
//!
//! ```text
//! interfaces ─► open ─► run ─► order ─► output ─► sink
//! which         in the  poll   by time  pcapng    file, pipe,
//!               netns                   or lines  socket
//! ```
//! Handles are opened inside the namespace and used outside of it. Nothing on the node is changed: interfaces
//! are not put into promiscuous mode, and every privilege is given up before the first packet is looked at.

mod decode;
mod error;
mod file;
mod filter;
mod interfaces;
mod lines;
mod open;
mod order;
mod output;
mod pcapng;
mod privileges;
mod run;
mod sink;
mod ssh;

pub use error::CaptureError;
pub use file::{FileError, open_capture_file};
pub use filter::{FilterError, check_filter};
pub use open::{Place, Point, Settings, open_points};
pub use output::Output;
pub use privileges::drop_privileges;
pub use run::{End, Limits, Progress, Summary, run};
pub use sink::{Sink, SinkError};
pub use ssh::{SshConnection, find_ssh_connection};
