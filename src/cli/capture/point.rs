//! `--point`: where on a pod's way through its node.

use crate::facts::PointKind;
use clap::{Args, ValueEnum};

/// Where to capture.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where")]
pub(crate) struct PointArgs {
    /// Where on the way through the node; several with commas go into one file, in the order of time.
    #[arg(long, value_enum, value_name = "POINT", value_delimiter = ',', default_value = "pod")]
    point: Vec<PointArg>,
    /// At bridge, tunnel and uplink everybody's traffic, not only that of SOURCE.
    #[arg(long)]
    pub(super) all_traffic: bool,
}

/// One value of `--point`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PointArg {
    /// The pod's own interfaces, in its namespace.
    Pod,
    /// The node's end of the pod's veth.
    Veth,
    /// The bridge it is a port of.
    Bridge,
    /// The tunnel to other nodes.
    Tunnel,
    /// What carries the tunnel, and the default route's interface; packets inside a tunnel are found too.
    Uplink,
    /// Each of these that is there.
    All,
}

impl PointArgs {
    /// The kinds that are asked for, from the pod outwards.
    pub(super) fn kinds(&self) -> Vec<PointKind> {
        let asked = |kind: &PointKind| {
            self.point.iter().any(|arg| match arg {
                PointArg::All => true,
                PointArg::Pod => *kind == PointKind::Pod,
                PointArg::Veth => *kind == PointKind::Veth,
                PointArg::Bridge => *kind == PointKind::Bridge,
                PointArg::Tunnel => *kind == PointKind::Tunnel,
                PointArg::Uplink => *kind == PointKind::Uplink,
            })
        };
        PointKind::ALL.into_iter().filter(asked).collect()
    }

    /// Whether whatever is there is asked for.
    pub(super) fn all(&self) -> bool {
        self.point.contains(&PointArg::All)
    }
}
