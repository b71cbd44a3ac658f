# shellcheck shell=bash disable=SC2154
# A node of many real pods (scripts/lab), asked from inside.

pods=250

bench_node() {
    local lab=("$here/lab" --name "$unique") at=/usr/local/bin file
    labs+=("$unique")
    say "node: $pods pods"
    "${lab[@]}" up --nodes 1 --pods none >/dev/null
    "${lab[@]}" pod 1 --prefix default/web --count "$pods" --workers 4 >/dev/null
    "${lab[@]}" binary 1 "$nsprobe" nsprobe
    for file in runner.py pairs.py loop-links loop-pods; do
        "${lab[@]}" binary 1 "$here/bench.d/$file" "$file"
    done
    # The loops get their PIDs and ids for nothing.
    "${lab[@]}" exec 1 -- sh -ec 'nsprobe pods -o json >/tmp/pods.json
        jq -r ".pods[].pid" /tmp/pods.json >/tmp/pids
        jq -r ".pods[].sandbox_id" /tmp/pods.json >/tmp/sandboxes'
    local loops=5
    ((runs > loops)) || loops=$runs
    local links="loop: nsenter, ip -j link|lines|$pods|$at/loop-links /tmp/pids"
    say "node: pods"
    "${lab[@]}" exec 1 -- python3 $at/pairs.py --section node --row pods --runs "$loops" --memory \
        "nsprobe|pods|$pods|$at/nsprobe pods -o json" "$links" \
        "loop: ctr containers info|lines|$pods|$at/loop-pods /tmp/sandboxes" >"$scratch/node.pods"
    say "node: links"
    "${lab[@]}" exec 1 -- python3 $at/pairs.py --section node --row links --runs "$loops" --memory \
        "nsprobe|namespaces|$((pods + 1))|$at/nsprobe links -o json" "$links" >"$scratch/node.links"
    "${lab[@]}" down >/dev/null
}
