//! How long the runtime takes to answer what the kubelet asks it every second.

use super::survey::Survey;
use super::{ListError, Options};
use crate::facts::{CallTime, Degraded, RuntimeWord};

/// What was measured.
#[derive(Debug)]
pub struct RuntimeTimes {
    /// Each call and its time; none of a runtime that does not answer.
    pub calls: Vec<CallTime>,
    /// The runtime endpoint that was used or tried.
    pub endpoint: Option<String>,
    /// What it says of itself; `None` when it does not answer.
    pub word: Option<RuntimeWord>,
    /// Set when it does not answer.
    pub degraded: Option<Degraded>,
}

/// Asks for all sandboxes and containers and the status of one, each once, and who answers.
///
/// # Errors
/// [`ListError`].
pub fn time_runtime(options: &Options) -> Result<RuntimeTimes, ListError> {
    let fs = options.open()?;
    let mut survey = Survey::start(&fs, options)?;
    let calls = survey.time_calls();
    let word = survey.word();
    Ok(RuntimeTimes { calls, word, endpoint: survey.endpoint, degraded: survey.degraded })
}
