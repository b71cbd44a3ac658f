//! What this node's files say of the MTU that pods are to have.

use schemars::JsonSchema;
use serde::Serialize;

/// The CNI configuration of this node, and the files in which its agents leave an MTU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CniConfig {
    /// Where configuration was looked for, in this order.
    pub folders: Vec<String>,
    /// Configuration files in the order in which the runtime reads them: the first counts.
    pub files: Vec<CniFile>,
    /// `/run/flannel/subnet.env`, when it is there.
    pub flannel: Option<MtuFile>,
    /// `/var/lib/calico/mtu`, when it is there.
    pub calico: Option<MtuFile>,
}

/// One file of the CNI configuration folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniFile {
    /// Its path on the node.
    pub path: String,
    /// When it was written last, seconds since 1970.
    pub modified: Option<i64>,
    /// What it says, or why that cannot be read.
    pub content: Result<CniNetwork, String>,
}

/// A CNI network: its plugins in the order in which they are called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CniNetwork {
    /// Its name.
    pub name: Option<String>,
    /// Its plugins; those that others delegate to in their place.
    pub plugins: Vec<CniPlugin>,
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CniPlugin {
    /// `type`: `bridge`, `flannel`, `calico`, `portmap`, …
    pub kind: String,
    /// The MTU that it is told to give, bytes; of flannel what it hands to its delegate. `None`: its own default.
    pub mtu_bytes: Option<u32>,
    /// The bridge that it makes.
    pub bridge: Option<String>,
}

/// A file in which an agent states the MTU of pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MtuFile {
    /// Its path on the node.
    pub path: String,
    /// When it was written last, seconds since 1970.
    pub modified: Option<i64>,
    /// The MTU, bytes, or why it cannot be read.
    pub content: Result<u32, String>,
}

/// The MTU that the CNI gives to pods from now on, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPods {
    /// The MTU, bytes.
    pub mtu_bytes: u32,
    /// Which setting: `FLANNEL_MTU`, `mtu of the plugin bridge`.
    pub stated_by: String,
    /// The file it stands in.
    pub path: String,
    /// When that file was written last, RFC 3339, UTC.
    pub modified_at: Option<String>,
    /// The bridge that the CNI makes for pods.
    pub bridge: Option<String>,
    /// `type` of the plugin that makes the pod's interface.
    pub plugin: String,
}
