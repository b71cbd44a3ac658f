//! Why the containers of a pod are in the state in which they are: cause of each attempt, and what to do about it.

mod cause;
mod check;
mod kubelet;
pub mod rules;
mod words;

pub use cause::{find_cause, is_of_pod, signal};
pub use check::check_why;
pub use kubelet::parse_kubelet;
pub use words::{cause_words, exit_words, size, span};

#[cfg(test)]
mod tests;
