# shellcheck shell=bash disable=SC2154
# Paths client – router – [bridge or delay] – router – server out of namespaces, and who is right about them how fast.

# The narrow link's MTU; the route at the client says 1500.
narrow=1450
# One way, in the middle of the far path: 50 ms there and back.
far_ms=25

address() {
    local family=$1 link=$2 end=$3
    if [[ $family == 4 ]]; then echo "10.99.$link.$end"; else echo "fd99:$link::$end"; fi
}

# wire LEFT-NS LEFT-IF RIGHT-NS RIGHT-IF MTU
wire() {
    ip -n "$1" link add "$2" mtu "$5" type veth peer name "$4" mtu "$5" netns "$3"
    ip -n "$1" link set "$2" up
    ip -n "$3" link set "$4" up
}

number() {
    local family=$1 link=$2 left=$3 right=$4 length=24
    [[ $family == 4 ]] || length="64 nodad"
    # shellcheck disable=SC2086
    ip -n "$left" address add "$(address "$family" "$link" 1)"/$length dev right
    # shellcheck disable=SC2086
    ip -n "$right" address add "$(address "$family" "$link" 2)"/$length dev left
}

inside() {
    local node=$1
    shift
    ip netns exec "$node" "$@"
}

neighbour() {
    local node=$1 interface=$2 peer=$3 peer_interface=$4 ip=$5 mac
    mac=$(ip -n "$peer" -j link show dev "$peer_interface" | jq -r '.[0].address')
    ip -n "$node" neighbour replace "$ip" lladdr "$mac" dev "$interface" nud permanent
}

# path_make PREFIX KIND FAMILY: PREFIX-c … PREFIX-s, the client's interface `right`, the first router's `left`.
path_make() {
    local p=$1 kind=$2 family=$3 middle=$narrow node
    local nodes=("$p-c" "$p-1" "$p-2" "$p-s")
    case $kind in
    clear) middle=1500 ;;
    bridge | far) nodes+=("$p-m") ;;
    esac
    for node in "${nodes[@]}"; do
        netns_add "$node"
        inside "$node" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
            net.ipv6.conf.default.router_solicitations=0 \
            net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
        ip -n "$node" link set lo up
    done
    wire "$p-c" right "$p-1" left 1500
    wire "$p-2" right "$p-s" left 1500
    case $kind in
    clear | ptb | filter) wire "$p-1" right "$p-2" left $middle ;;
    bridge)
        wire "$p-1" right "$p-m" left 1500
        wire "$p-m" right "$p-2" left 1500
        # What is larger than a port's MTU, the bridge drops without a word.
        ip -n "$p-m" link set right mtu $narrow
        ip -n "$p-m" link add br0 type bridge
        ip -n "$p-m" link set left master br0
        ip -n "$p-m" link set right master br0
        ip -n "$p-m" link set br0 up
        ;;
    far)
        wire "$p-1" right "$p-m" left $middle
        wire "$p-m" right "$p-2" left $middle
        inside "$p-m" python3 "$here/bench.d/delay.py" "$far_ms" left right &
        helpers+=($!)
        ;;
    esac
    # As on a wire: checksums filled in (scamper knows its IPv6 probes by them).
    inside "$p-c" ethtool -K right tx off >/dev/null
    inside "$p-s" ethtool -K left tx off >/dev/null
    number "$family" 0 "$p-c" "$p-1"
    number "$family" 1 "$p-1" "$p-2"
    number "$family" 2 "$p-2" "$p-s"
    ip -n "$p-c" "-$family" route add default via "$(address "$family" 0 2)"
    ip -n "$p-1" "-$family" route add default via "$(address "$family" 1 2)"
    ip -n "$p-2" "-$family" route add default via "$(address "$family" 1 1)"
    ip -n "$p-s" "-$family" route add default via "$(address "$family" 2 1)"
    # Neighbours that need no asking: every packet that is counted is the tool's.
    neighbour "$p-c" right "$p-1" left "$(address "$family" 0 2)"
    neighbour "$p-1" left "$p-c" right "$(address "$family" 0 1)"
    neighbour "$p-1" right "$p-2" left "$(address "$family" 1 2)"
    neighbour "$p-2" left "$p-1" right "$(address "$family" 1 1)"
    neighbour "$p-2" right "$p-s" left "$(address "$family" 2 2)"
    neighbour "$p-s" left "$p-2" right "$(address "$family" 2 1)"
    if [[ $kind == filter || $kind == far ]]; then
        inside "$p-1" nft "add table inet t; add chain inet t o { type filter hook output priority 0; }
            add rule inet t o icmp type destination-unreachable icmp code 4 drop
            add rule inet t o icmpv6 type packet-too-big drop"
    fi
    path_is "$p" "$kind" "$family" || die "the path $kind over IPv$family is not what it should be"
}

# Whether the path carries what it should and no byte more, by ping.
path_is() {
    local p=$1 kind=$2 family=$3 mtu=$narrow headers=28 target
    target=$(address "$family" 2 2)
    [[ $family == 4 ]] || headers=48
    [[ $kind != clear ]] || mtu=1500
    local ping=(ping "-$family" -n -q -c1 -W1 -M do)
    # The first packet to somebody may meet a kernel that still learns.
    inside "$p-c" "${ping[@]}" -W3 "$target" >/dev/null || return
    inside "$p-c" "${ping[@]}" -s $((mtu - headers)) "$target" >/dev/null || return
    ! inside "$p-c" "${ping[@]}" -s $((mtu - headers + 1)) "$target" >/dev/null 2>&1 || return
    ip -n "$p-c" "-$family" route flush cache
}

expected() {
    case $1 in
    clear) echo "clear 1500" ;;
    ptb) echo "narrowed $narrow" ;;
    *) echo "black_hole $narrow" ;;
    esac
}

row_name() {
    case $1 in
    clear) echo "clear" ;;
    ptb) echo "narrowed, PTB arrives" ;;
    filter) echo "black hole, PTB filtered" ;;
    bridge) echo "black hole, bridge port" ;;
    far) echo "black hole, RTT $((2 * far_ms)) ms" ;;
    esac
}

peer() {
    local tool=$1 family=$2 target=$3 mtu=$4 enter=$5
    case $tool in
    ping) echo "ping bisect|bisect|$mtu|$enter$here/bench.d/ping-bisect $family $target" ;;
    tracepath) echo "tracepath|tracepath|$mtu|${enter}tracepath -$family -n $target" ;;
    traceroute) echo "traceroute --mtu|traceroute|$mtu|${enter}traceroute -$family -n --mtu $target" ;;
    scamper) echo "scamper trace -M|scamper|$mtu|${enter}scamper -c 'trace -M' -i $target" ;;
    esac
}

# compare PREFIX KIND FAMILY RUNS TOOL…
compare() {
    local p=$1 kind=$2 family=$3 count=$4 target verdict tool
    shift 4
    target=$(address "$family" 2 2)
    verdict=$(expected "$kind")
    local tools=("nsprobe|mtu|$verdict|$nsprobe mtu -o json netns:$p-c $target")
    # nsprobe enters the namespace by itself; the others are brought there by nsenter, as on a node.
    local enter="nsenter --net=/run/netns/$p-c "
    [[ -z $inside ]] || enter=''
    for tool in "$@"; do
        tools+=("$(peer "$tool" "$family" "$target" "${verdict##* }" "$enter")")
    done
    local memory=()
    (($#)) || memory=(--memory)
    python3 "$here/bench.d/pairs.py" --section mtu --row "IPv$family, $(row_name "$kind")" --runs "$count" \
        --patience "$patience" --netns "$p-c" --count "$p-1:left" --flush "${memory[@]}" "${tools[@]}"
}

# Tools that wait for timeouts: each on a path of its own, at the same time, because waiting costs nobody anything.
bench_mtu_waiting() {
    local family kind tool job=0 jobs=() prefix tools count
    for family in 4 6; do
        for kind in ptb filter bridge far; do
            tools=(ping tracepath traceroute scamper)
            [[ $kind != ptb ]] || tools=(ping)
            for tool in "${tools[@]}"; do
                job=$((job + 1))
                prefix=$unique-w$job
                path_make "$prefix" "$kind" "$family"
                count=1
                [[ $tool != ping ]] || count=3
                compare "$prefix" "$kind" "$family" "$count" "$tool" >"$scratch/mtu.waiting.$job" &
                jobs+=($!)
                helpers+=($!)
            done
        done
    done
    say "mtu: ${#jobs[@]} comparisons with tools that wait for timeouts, at most $patience s each"
    wait "${jobs[@]}"
    forget_namespaces
}

bench_mtu() {
    local family kind prefix
    [[ -z $waiting ]] || bench_mtu_waiting
    for family in 4 6; do
        for kind in clear ptb filter bridge far; do
            say "mtu: IPv$family, $(row_name "$kind")"
            prefix=$unique-q$family$kind
            path_make "$prefix" "$kind" "$family"
            case $kind in
            clear) compare "$prefix" "$kind" "$family" "$runs" ping tracepath traceroute scamper ;;
            ptb) compare "$prefix" "$kind" "$family" "$runs" tracepath traceroute scamper ;;
            esac >"$scratch/mtu.quick.$family.$kind"
            compare "$prefix" "$kind" "$family" "$runs" >"$scratch/mtu.self.$family.$kind"
            forget_namespaces
        done
    done
}

# Every scenario of tests/paths; its own table, its own marks in the README.
bench_scenarios() {
    local builder=${CARGO_TARGET_DIR:-$project/target}/debug/examples/lab-path more=() way="through nsenter"
    cargo build --quiet --locked --manifest-path "$project/Cargo.toml" --example lab-path
    [[ -z $inside ]] || more=(--inside) way="started inside the namespace"
    ((patience <= 45)) || patience=45
    python3 "$here/bench.d/scenarios.py" --builder "$builder" --nsprobe "$nsprobe" --runs "$runs" \
        --patience "$patience" --only "$scenarios" "${more[@]}" >"$scratch/scenarios"
    [[ -z $runs_to ]] || cp "$scratch/scenarios" "$runs_to"
    python3 "$here/bench.d/scenario_table.py" text "$scratch/scenarios"
    {
        echo "Measured by \`scripts/bench mtu --scenarios\` on $(nproc) cores, Linux $(uname -r), $(date -u +%F), the others $way,"
        echo "each with a patience of $patience s; on paths without delay. Routers do not ration what they say of expired packets."
        echo
        python3 "$here/bench.d/scenario_table.py" markdown "$scratch/scenarios"
    } >"$scratch/scenarios.md"
    [[ -z $markdown ]] || cp "$scratch/scenarios.md" "$markdown"
    [[ -z $readme ]] || into_readme "$scratch/scenarios.md" scenarios
}
