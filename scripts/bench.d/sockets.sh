# shellcheck shell=bash disable=SC2154
# 50,000 TCP sockets in one namespace: with the processes that hold them, and without.

sockets=50000

bench_sockets() {
    local name=$unique-sockets opened=$scratch/opened
    say "sockets: $sockets open"
    netns_add "$name"
    ip -n "$name" link set lo up
    mkfifo "$scratch/end"
    ip netns exec "$name" python3 "$here/bench.d/many-sockets.py" "$sockets" <"$scratch/end" >"$opened" &
    helpers+=($!)
    # Its children end when this end of the pipe is closed, whichever way this script ends.
    exec {sockets_end}>"$scratch/end"
    for _ in $(seq 600); do
        [[ ! -s $opened ]] || break
        sleep 0.1
    done
    [[ -s $opened ]] || die "the sockets did not open"
    local ours="$nsprobe sockets netns:$name -t --state established" row parser options peer
    # Every output goes into a file.
    for row in "JSON, processes|sockets|-o json|ss -tinpHO" "table, processes|rows||ss -tinpHO" \
        "JSON, none|sockets|-o json --no-processes|ss -tinHO" "table, none|rows|--no-processes|ss -tinHO"; do
        IFS='|' read -r row parser options peer <<<"$row"
        say "sockets: $row"
        python3 "$here/bench.d/pairs.py" --section sockets --row "sockets, $row" --runs "$runs" --memory \
            --netns "$name" "nsprobe|$parser|$sockets|$ours $options" "$peer|lines|$sockets|$peer" \
            >"$scratch/sockets.${row//, /-}"
    done
    exec {sockets_end}>&-
    forget_namespaces
}
