# shellcheck shell=bash disable=SC2154
# The ledger of a node with ever more real pods (scripts/lab): what does one pod more cost?

ledger_pods=(10 100 250)

bench_links() {
    local lab=("$here/lab" --name "${unique}l") at=/usr/local/bin there=0 count file
    labs+=("${unique}l")
    say "links: up to ${ledger_pods[-1]} pods"
    "${lab[@]}" up --nodes 1 --pods none >/dev/null
    "${lab[@]}" binary 1 "$nsprobe" nsprobe
    for file in runner.py pairs.py loop-ledger syscalls.py; do
        "${lab[@]}" binary 1 "$here/bench.d/$file" "$file"
    done
    local loops=5
    ((runs > loops)) || loops=$runs
    for count in "${ledger_pods[@]}"; do
        "${lab[@]}" pod 1 --prefix "default/of$count" --count $((count - there)) --workers 4 >/dev/null
        there=$count
        # The loop gets its PIDs for nothing.
        "${lab[@]}" exec 1 -- sh -ec 'nsprobe pods -o json | jq -r ".pods[].pid" >/tmp/pids'
        say "links: $count pods"
        "${lab[@]}" exec 1 -- python3 $at/pairs.py --section links --row "$count" --runs "$loops" --memory \
            "nsprobe|namespaces|$((count + 1))|$at/nsprobe links -o json" \
            "loop|lines|$((2 * count))|$at/loop-ledger /tmp/pids" >"$scratch/links.$count"
        "${lab[@]}" exec 1 -- python3 $at/syscalls.py --row "$count" "nsprobe|$at/nsprobe links -o json" \
            "loop|$at/loop-ledger /tmp/pids" >>"$scratch/links.$count"
    done
    "${lab[@]}" down >/dev/null
}
