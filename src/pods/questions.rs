//! What the runtime is asked about single pods, and what it said.

use super::cri::messages::{ContainerStatusResponse, PodSandboxStatusResponse};
use super::cri::{CallError, Runtime};
use crate::facts::{ContainerState, Pod, PodState};
use std::collections::HashMap;

/// What the runtime is asked about some pods: the cheap, not verbose, calls.
pub(super) struct Questions {
    pub(super) ready: Vec<String>,
    pub(super) ended: Vec<String>,
}

/// What it said.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) sandboxes: HashMap<String, PodSandboxStatusResponse>,
    pub(super) exits: HashMap<String, ContainerStatusResponse>,
    pub(super) error: Option<CallError>,
}

impl Questions {
    pub(super) fn about(pods: &[&mut Pod]) -> Self {
        let ready = pods.iter().filter(|pod| pod.state == PodState::Ready);
        let containers = pods.iter().flat_map(|pod| &pod.containers);
        let ended = containers.filter(|c| c.state == ContainerState::Exited);
        Self {
            ready: ready.map(|pod| pod.sandbox_id.clone()).collect(),
            ended: ended.map(|c| c.id.clone()).collect(),
        }
    }

    pub(super) fn ask(self, runtime: &Runtime) -> Answers {
        let (sandboxes, late) = runtime.sandbox_statuses(self.ready, false);
        let (exits, later) = runtime.container_statuses(self.ended, false);
        Answers { sandboxes, exits, error: late.or(later) }
    }
}
