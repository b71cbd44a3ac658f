//! The kernel's kills for memory, and what cgroups count of it.

mod memory;
mod parse;

pub use memory::{PodCgroup, read_container_memory, read_memory, read_pod_memory};
pub use parse::{KernelLine, parse_kills};
