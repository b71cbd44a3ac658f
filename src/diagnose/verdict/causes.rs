//! Which finding explains which.

/// A cause and what may follow from it; of several causes that fit the nearest stands first.
pub(super) const EXPLAINS: &[(&str, &[&str])] = &[
    ("mtu.black_hole", HANGS),
    ("mtu.reverse_black_hole", HANGS),
    ("mtu.narrowed", &["mtu.cached", "mtu.cache_left", "net.path_mtus_remembered"]),
    // What is too small, by links and routes and by measurement.
    ("links.veth_mtu_mismatch", SMALLER),
    ("links.bridge_port_smaller", SMALLER),
    ("links.bridge_below_pods", SMALLER),
    ("links.tunnel_exceeds_underlay", SMALLER),
    ("links.pod_exceeds_bridged_tunnel", SMALLER),
    ("links.route_mtu_exceeds_link", SMALLER),
    ("links.pod_exceeds_tunnel", SMALLER),
    ("links.pod_exceeds_uplink", SMALLER),
    ("links.ipsec_exceeds_underlay", SMALLER),
    ("tunnel.exceeds_path", SMALLER),
    ("links.tunnel_path_mtu", &["mtu.black_hole", "mtu.narrowed", "mtu.cached"]),
    // And why it is so: what somebody wrote.
    ("links.tunnel_exceeds_underlay", &["config.mtu_exceeds_path"]),
    ("config.pods_larger", TOO_LARGE),
    ("config.mtu_exceeds_path", TOO_LARGE),
    ("config.tunnel_not_following", TOO_LARGE),
    ("config.bridge_not_following", &["links.bridge_port_smaller", "links.bridge_below_pods"]),
    ("net.fragments_lost", &["mtu.black_hole", "dns.large_answers_lost"]),
    ("net.remembered_tiny", &["sockets.tiny_path_mtu", "mtu.cache_stale"]),
    // What drops packets of any size.
    ("net.conntrack_full", DROPS_SOME),
    ("net.conntrack_race", &["dns.half_answered", "dns.slow"]),
    ("net.checksum_errors", &["dns.slow", "connect.syn_lost"]),
    (
        "net.tunnel_remote_silent",
        &["tunnel.remote_silent", "mtu.unreachable", "connect.silent", "connect.no_way"],
    ),
    ("links.vxlan_checksum_offload", &["net.checksum_errors", "dns.slow", "connect.syn_lost"]),
    ("links.tunnel_no_route", NOTHING_LEAVES),
    ("links.tunnel_in_itself", NOTHING_LEAVES),
    ("net.tunnel_peer_unknown", NOTHING_LEAVES),
    ("net.forwarding_off", NOTHING_LEAVES),
    ("net.reverse_path_drops", NOTHING_LEAVES),
    ("node.neighbour_table_full", NOTHING_LEAVES),
    ("net.gateway_silent", NOTHING_LEAVES),
    (
        "pod.sandbox_not_ready",
        &["pod.container_down", "pod.address_missing", "links.end_down", "links.not_read"],
    ),
    ("links.end_down", NOTHING_LEAVES),
    ("links.duplicate_address", NOTHING_LEAVES),
    ("pod.address_missing", NOTHING_LEAVES),
    ("links.no_default_route", NOTHING_LEAVES),
    ("links.no_route_to_pod", NOTHING_LEAVES),
    ("links.overlapping_routes", NOTHING_LEAVES),
    ("pod.container_down", &["connect.refused"]),
    ("mtu.next_hop_silent", NO_ANSWER),
    ("mtu.routing_loop", NO_ANSWER),
    ("mtu.unreachable", &["connect.silent", "connect.no_way"]),
    // Names.
    ("dns.no_answer", &["dns.target_fails", "sockets.peer_silent"]),
    ("dns.no_server", &["dns.no_answer", "dns.target_fails"]),
    ("dns.resolv_conf_odd", &["dns.no_answer", "dns.target_fails"]),
    ("dns.udp_lost", &["dns.target_fails"]),
    ("dns.server_fails", &["dns.target_fails"]),
    ("dns.server_silent", &["dns.target_fails"]),
];

/// What large packets that vanish do, and how it shows.
const HANGS: &[&str] = &[
    "mtu.dropped_on_node",
    "mtu.left_node",
    "mtu.refused_here",
    "mtu.refused_by_size",
    "mtu.no_recovery",
    "net.interface_drops",
    "net.tcp_found_black_hole",
    "sockets.stuck_on_mtu",
    "sockets.mtu_suspected",
    "dns.large_answers_lost",
];

/// What a hop that is too small does.
const SMALLER: &[&str] = &[
    "mtu.black_hole",
    "mtu.narrowed",
    "mtu.reverse_black_hole",
    "mtu.cached",
    "tunnel.exceeds_path",
    "links.tunnel_path_mtu",
    "sockets.stuck_on_mtu",
    "sockets.mtu_suspected",
    "dns.large_answers_lost",
];

/// What a setting does that gives pods more than their way out takes.
const TOO_LARGE: &[&str] = &[
    "links.pod_exceeds_tunnel",
    "links.pod_exceeds_bridged_tunnel",
    "links.pod_exceeds_uplink",
    "mtu.black_hole",
    "mtu.narrowed",
];

/// What follows when packets do not leave, or do not come back, at all.
const NOTHING_LEAVES: &[&str] = &[
    "net.gateway_silent",
    "mtu.next_hop_silent",
    "mtu.unreachable",
    "dns.no_answer",
    "dns.target_fails",
    "connect.silent",
    "connect.no_way",
    "sockets.syn_unanswered",
    "sockets.peer_silent",
    "sockets.mtu_suspected",
];

/// The same of a next hop that is silent.
const NO_ANSWER: &[&str] = &[
    "mtu.unreachable",
    "dns.no_answer",
    "dns.target_fails",
    "connect.silent",
    "connect.no_way",
    "sockets.syn_unanswered",
    "sockets.peer_silent",
    "sockets.mtu_suspected",
];

/// What follows when some are dropped.
const DROPS_SOME: &[&str] = &[
    "dns.half_answered",
    "dns.slow",
    "dns.no_answer",
    "dns.target_fails",
    "connect.syn_lost",
    "connect.silent",
    "sockets.syn_unanswered",
    "sockets.peer_silent",
];
