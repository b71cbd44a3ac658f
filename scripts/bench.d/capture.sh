# shellcheck shell=bash disable=SC2154
# What a captured packet costs: a flood over a veth pair, captured to a file.

bench_capture() {
    local a=$unique-a b=$unique-b size
    netns_add "$a"
    netns_add "$b"
    ip -n "$a" link add right mtu 1500 type veth peer name left mtu 1500 netns "$b"
    ip -n "$a" address add 10.98.0.1/24 dev right
    ip -n "$a" link set right up
    ip -n "$b" link set left up
    # To somebody who is not there: nothing is answered.
    ip -n "$a" neighbour add 10.98.0.9 lladdr 02:00:00:00:00:09 dev right nud permanent
    gcc -O2 -Wall -o "$scratch/flood" "$project/tests/lab/flood.c"
    for size in 64 1400; do
        say "capture: packets of $size bytes"
        python3 "$here/bench.d/capture.py" --row "$size bytes" --runs "$runs" --folder "$scratch" --netns "$b" \
            --flood "ip netns exec $a $scratch/flood 10.98.0.9 $size {packets} {rate}" \
            "nsprobe|\"packets\": ?(\d+)|$nsprobe capture netns:$b -i left -o json -w {file}" \
            "tcpdump|(\d+) packets captured|tcpdump -n -p -i left -B 8192 -w {file} -Z root" \
            "dumpcap|Packets captured: (\d+)|dumpcap -q -p -i left -B 8 -w {file}" >"$scratch/capture.$size"
    done
}
