# shellcheck shell=bash disable=SC2154
# What a captured packet costs, and what is lost of a flood over veth pairs.

# A pair of namespaces: packets to somebody who is not there, so that nothing is answered.
capture_pair() {
    local a=$1 b=$2
    netns_add "$a"
    netns_add "$b"
    ip -n "$a" link add right mtu 1500 type veth peer name left mtu 1500 netns "$b"
    ip -n "$a" address add 10.98.0.1/24 dev right
    ip -n "$a" link set right up
    ip -n "$b" link set left up
    ip -n "$a" neighbour add 10.98.0.9 lladdr 02:00:00:00:00:09 dev right nud permanent
}

# capture_row FILE OPTIONS… -- TOOL…
capture_row() {
    local file=$1
    shift
    python3 "$here/bench.d/capture.py" --folder "$scratch" --runs "$runs" "$@" >"$scratch/$file"
}

bench_capture() {
    local a=$unique-a b=$unique-b size flood own number eight='' floods='' pods=''
    local tcpdump='tcpdump|(\d+) packets captured' dumpcap='dumpcap|Packets captured: (\d+)'
    capture_pair "$a" "$b"
    gcc -O2 -Wall -o "$scratch/flood" "$project/tests/lab/flood.c"
    flood="ip netns exec $a $scratch/flood 10.98.0.9"
    own="$nsprobe capture netns:$b -i left"
    for size in 64 1400; do
        say "capture: packets of $size bytes"
        capture_row "capture.$size" --row "$size bytes" --netns "$b" --flood "$flood $size {packets} {rate}" \
            "nsprobe|(\d+) packets|$own -w {file}" \
            "$tcpdump|tcpdump -n -p -i left -B 8192 -w {file} -Z root" \
            "$dumpcap|dumpcap -q -p -i left -B 8 -w {file}"
        capture_row "capture.1$size" --row "$size bytes to nowhere" --netns "$b" --flood "$flood $size {packets} {rate}" \
            "nsprobe|(\d+) packets|$own -w /dev/null" \
            "$tcpdump|tcpdump -n -p -i left -B 8192 -w /dev/null -Z root" \
            "$dumpcap|dumpcap -q -p -i left -B 8 -w /dev/null"
    done
    say "capture: decoded lines"
    capture_row capture.2 --row "a decoded line" --netns "$b" --flood "$flood 64 {packets} {rate}" \
        "nsprobe|(\d+) packets|$nsprobe capture netns:$b -i left -n" \
        "$tcpdump|tcpdump -n -p -i left -B 8192 -s 512 -Z root"
    say "capture: 150,000 packets a second, both cores busy"
    capture_row capture.3 --row "150,000/s, 128 bytes kept, 2 MiB, cores busy" --netns "$b" --busy "$(nproc)" \
        --packets 450000 --rate 150000 --flood "$flood 1400 {packets} {rate}" \
        "nsprobe|(\d+) packets|$own -s 128 -B 2M -w {file}" \
        "$tcpdump|tcpdump -n -p -i left -s 128 -B 2048 -w {file} -Z root" \
        "$dumpcap|dumpcap -q -p -i left -s 128 -B 2 -w {file}"
    say "capture: eight pods at once"
    for number in 1 2 3 4 5 6 7 8; do
        capture_pair "$a$number" "$b$number"
        pods+=" netns:$b$number"
        eight+="${eight:+;;}ip netns exec $b$number tcpdump -n -p -i left -B 8192 -w {file} -Z root"
        floods+="${floods:+;;}ip netns exec $a$number $scratch/flood 10.98.0.9 1400 {packets} {rate}"
    done
    capture_row capture.4 --row "eight pods" --packets 50000 --rate 10000 --flood "$floods" \
        "nsprobe|(\d+) packets|$nsprobe capture$pods -i left -w {file}" "$tcpdump|$eight"
    say "capture: the highest rate without loss"
    for size in 64 1400; do
        capture_row "rate.$size" --row "$size bytes, 2 MiB" --netns "$b" --highest --flood "$flood $size {packets} {rate}" \
            "nsprobe|(\d+) packets|$own -B 2M -w {file}" \
            "$tcpdump|tcpdump -n -p -i left -B 2048 -w {file} -Z root" \
            "$dumpcap|dumpcap -q -p -i left -B 2 -w {file}"
    done
}
