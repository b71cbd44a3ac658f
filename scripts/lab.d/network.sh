# shellcheck shell=bash disable=SC2154
# The wires: a bridge in a namespace of its own is the underlay, each node's eth0 a veth to it, and the nodes'
# flannel.1 the VXLAN between them. Nothing is ever made in this machine's own network namespace.
#
#   underlay  10.10.0.NODE/24      fd00:10:10::NODE/64      (254 and fe: the underlay itself, the default route)
#   pods      10.244.NODE.0/24     fd00:10:244:NODE::/64    (l2: one 10.244.0.0/16 and fd00:10:244::/64)

underlay() {
    nsenter --net="$lab/underlay" -- "$@"
}

# Runs a tool of this machine in the network namespace of a node.
node_net() {
    local pid
    pid=$(<"$lab/node$1/pid")
    nsenter -t "$pid" -n -- "${@:2}"
}

other_nodes() {
    seq "$nodes" | grep -vx "$1" || true
}

with_ipv6() {
    [[ $ipv6 == on ]]
}

vxlan_mac() {
    printf '0e:f1:00:00:00:%02x' "$1"
}

underlay_up() {
    touch "$lab/underlay"
    unshare --net="$lab/underlay" true
    # A switch neither looks into what it carries nor puts fragments together.
    underlay sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 \
        net.bridge.bridge-nf-call-arptables=0 2>/dev/null || true
    underlay sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0
    underlay ip -batch - <<BATCH
link set lo up
link add ul0 type bridge
link set ul0 up
address add 10.10.0.254/24 dev ul0
BATCH
    ! with_ipv6 || underlay ip address add fd00:10:10::fe/64 dev ul0 nodad
}

node_network_up() {
    local pid
    pid=$(<"$lab/node$1/pid")
    # Both ends are born where they live: nothing to collide with, nothing to clean up.
    underlay ip -batch - <<BATCH
link add node$1 type veth peer name eth0 netns $pid
link set node$1 master ul0
link set node$1 up
BATCH
    # Pods come and go at once, not after a second of duplicate address detection.
    node_net "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
        net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
    node_net "$1" ip -batch - <<BATCH
link set lo up
link set eth0 mtu 65000
link set eth0 up
address add 10.10.0.$1/24 dev eth0
route add default via 10.10.0.254
link add flannel.1 address $(vxlan_mac "$1") type vxlan id 1 dev eth0 local 10.10.0.$1 dstport 8472 df $vxlan_df $(
        [[ $topology == routed ]] && echo nolearning)
link add cni0 type bridge
link set cni0 up
BATCH
    if with_ipv6; then
        node_net "$1" ip -batch - <<BATCH
address add fd00:10:10::$1/64 dev eth0 nodad
route add default via fd00:10:10::fe
BATCH
    fi
    "vxlan_$topology" "$1" | node_net "$1" ip -batch -
    vxlan_peers "$1" | node_net "$1" bridge -batch -
    node_cni_config "$1"
}

# As flannel does it: a subnet a node, the VXLAN is a router's interface.
vxlan_routed() {
    local other
    echo "address add 10.244.$1.0/32 dev flannel.1"
    echo "link set flannel.1 up"
    ! with_ipv6 || echo "address add fd00:10:244:ff::$1/128 dev flannel.1 nodad"
    for other in $(other_nodes "$1"); do
        echo "neighbour add 10.244.$other.0 lladdr $(vxlan_mac "$other") dev flannel.1 nud permanent"
        echo "route add 10.244.$other.0/24 via 10.244.$other.0 dev flannel.1 onlink"
        with_ipv6 || continue
        echo "neighbour add fd00:10:244:ff::$other lladdr $(vxlan_mac "$other") dev flannel.1 nud permanent"
        echo "route add fd00:10:244:$other::/64 via fd00:10:244:ff::$other dev flannel.1 onlink"
    done
}

# One subnet for all pods: the VXLAN is a port of cni0.
vxlan_l2() {
    echo "link set flannel.1 master cni0"
    echo "link set flannel.1 up"
}

vxlan_peers() {
    local other
    for other in $(other_nodes "$1"); do
        if [[ $topology == routed ]]; then
            echo "fdb add $(vxlan_mac "$other") dev flannel.1 dst 10.10.0.$other self permanent"
        else
            echo "fdb append 00:00:00:00:00:00 dev flannel.1 dst 10.10.0.$other self permanent"
        fi
    done
}

# Decides only for pods made from now on, as on a real node.
node_cni_config() {
    local ranges
    ranges=$("ranges_$topology" "$1")
    node_run "$1" sh -c 'mkdir -p /etc/cni/net.d && cat >/etc/cni/net.d/10-flannel.conflist' <<JSON
{
  "name": "cbr0",
  "cniVersion": "0.4.0",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isDefaultGateway": true,
      "hairpinMode": true,
      "mtu": $pod_mtu,
      "ipam": {"type": "host-local", "ranges": [$ranges]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
JSON
}

ranges_routed() {
    echo "[{\"subnet\": \"10.244.$1.0/24\"}]"
    ! with_ipv6 || echo ", [{\"subnet\": \"fd00:10:244:$1::/64\"}]"
}

# Each node gives out its own part of the common subnet, and is its pods' gateway.
ranges_l2() {
    echo "[{\"subnet\": \"10.244.0.0/16\", \"gateway\": \"10.244.$1.1\","
    echo "\"rangeStart\": \"10.244.$1.2\", \"rangeEnd\": \"10.244.$1.254\"}]"
    with_ipv6 || return 0
    echo ", [{\"subnet\": \"fd00:10:244::/64\", \"gateway\": \"fd00:10:244::$1:1\","
    echo "\"rangeStart\": \"fd00:10:244::$1:2\", \"rangeEnd\": \"fd00:10:244::$1:fffe\"}]"
}

# --- MTUs ----------------------------------------------------------------------------------------------

apply_mtus() {
    underlay ip link set ul0 mtu "$underlay_mtu"
    for_each_node node_mtus
}

node_mtus() {
    underlay ip link set "node$1" mtu "$underlay_mtu"
    # A VXLAN may be set wider than its eth0 allows only while eth0 is wider still. A bridge follows its
    # narrowest port until its MTU has been set by hand, which must therefore come last.
    node_net "$1" ip -batch - <<BATCH
link set eth0 mtu 65000
link set flannel.1 mtu $vxlan_mtu
link set eth0 mtu $node_mtu
link set cni0 mtu ${bridge_mtu:-$pod_mtu}
BATCH
}

node_vxlan_df() {
    node_net "$1" ip link set flannel.1 type vxlan id 1 df "$vxlan_df"
}

# --- what is dropped ------------------------------------------------------------------------------------

apply_drops() {
    local at_underlay='' at_node=''
    if [[ $drop != none && $drop_at == underlay ]]; then
        at_underlay=$(drop_rules; drop_rules_in_vxlan)
    elif [[ $drop != none ]]; then
        at_node=$(drop_rules)
    fi
    if ((loss > 0)); then
        at_underlay+=$'\n'"numgen random mod 100 < $loss counter drop"
    fi
    # Priority -450 is before the kernel puts fragments together.
    underlay nft -f - <<NFT
table bridge lab
delete table bridge lab
table bridge lab {
    chain in {
        type filter hook prerouting priority -450
        $at_underlay
    }
}
NFT
    for_each_node node_drops "$at_node"
}

# A node drops what comes in, and what it would itself say (fragmentation-needed to its own pods).
node_drops() {
    node_net "$2" nft -f - <<NFT
table inet lab
delete table inet lab
table inet lab {
    chain in {
        type filter hook prerouting priority -450
        $1
    }
    chain out {
        type filter hook output priority -450
        $1
    }
}
NFT
}

drop_rules() {
    local what
    for what in ${drop//,/ }; do
        case $what in
        ptb)
            echo 'icmp type destination-unreachable icmp code 4 counter drop'
            echo 'icmpv6 type packet-too-big counter drop'
            ;;
        icmp-errors)
            echo 'icmp type { destination-unreachable, time-exceeded, parameter-problem } counter drop'
            echo 'icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } counter drop'
            ;;
        fragments)
            echo 'ip frag-off & 0x3fff != 0 counter drop'
            echo 'meta protocol ip6 exthdr frag exists counter drop'
            ;;
        echo)
            echo 'icmp type { echo-request, echo-reply } counter drop'
            echo 'icmpv6 type { echo-request, echo-reply } counter drop'
            ;;
        esac
    done
}

# The same for the packets of pods, which the underlay sees inside UDP: bit offsets from the outer UDP header,
# which 8 bytes of UDP, 8 of VXLAN and 14 of Ethernet part from the inner IP header.
drop_rules_in_vxlan() {
    local v4='udp dport 8472 @th,224,16 0x0800 @th,312,8 1' v6='udp dport 8472 @th,224,16 0x86dd @th,288,8 58'
    local what
    for what in ${drop//,/ }; do
        case $what in
        ptb)
            echo "$v4 @th,400,16 0x0304 counter drop"
            echo "$v6 @th,560,8 2 counter drop"
            ;;
        icmp-errors)
            echo "$v4 @th,400,8 { 3, 11, 12 } counter drop"
            echo "$v6 @th,560,8 { 1, 2, 3, 4 } counter drop"
            ;;
        echo)
            echo "$v4 @th,400,8 { 0, 8 } counter drop"
            echo "$v6 @th,560,8 { 128, 129 } counter drop"
            ;;
        esac
    done
}
