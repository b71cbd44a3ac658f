# shellcheck shell=bash disable=SC2154
# Files of a node, under a root of their own: 65,536 reservations of host-local, and the end of a log of 1 GiB.

reservations=65536

bench_files() {
    local root=$scratch/node folder log pod=var/log/pods/shop_web_11111111-2222-3333-4444-555555555555/app
    folder=$root/var/lib/cni/networks/big
    log=$root/$pod/0.log
    mkdir -p "$folder" "$root/etc/cni/net.d" "$root/$pod"
    say "files: $reservations reservations, a log of 1 GiB"
    python3 "$here/bench.d/node-files.py" "$folder" "$reservations" "$log" 1073741824
    cat >"$root/etc/cni/net.d/10-big.conflist" <<'JSON'
{"name": "big", "cniVersion": "1.0.0", "plugins": [{"type": "ptp",
 "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.8.0.0/15"}]]}}]}
JSON
    local own="$nsprobe --host-root $root"
    say "files: ipam"
    python3 "$here/bench.d/pairs.py" --section files --row "ipam, $reservations reservations" --runs "$runs" --memory \
        "nsprobe|networks|1|$own ipam -o json" \
        "ls, xargs cat|lines|$((reservations + 1))|sh -c 'cd $folder && ls | xargs cat'" >"$scratch/files.ipam"
    if [[ -n $waiting ]]; then
        say "files: a cat for each reservation"
        python3 "$here/bench.d/pairs.py" --section files --row "ipam, a process a reservation" --runs 1 \
            "nsprobe|networks|1|$own ipam -o json" \
            "ls, cat in a loop|lines|$((2 * reservations))|sh -c 'cd $folder && ls | while read -r f; do cat \$f; echo; done'" \
            >"$scratch/files.loop"
    fi
    say "files: logs"
    python3 "$here/bench.d/pairs.py" --section files --row "logs --tail 10 of 1 GiB" --runs "$runs" --memory \
        "nsprobe|lines|10|$own logs shop/web --tail 10" "tail -n 10|lines|10|tail -n 10 $log" >"$scratch/files.tail"
    python3 "$here/bench.d/pairs.py" --section files --row "logs of 1 GiB, all" --runs "$((runs > 3 ? 3 : runs))" --memory \
        "nsprobe|lines|0|sh -c '$own logs shop/web >/dev/null'" \
        "cut -d ' ' -f 4-|lines|0|sh -c 'cut -d \" \" -f 4- $log >/dev/null'" >"$scratch/files.all"
    rm -rf "$root"
}
