# shellcheck shell=bash disable=SC2154
# `nsprobe cluster` on 100,000 pods of a local server, against kubectl and against curl and jq on the same pages.

cluster_pods=100000

bench_cluster() {
    local config=$scratch/admin.conf url kubectl=${KUBECTL:-kubectl}
    python3 "$here/bench.d/api-server.py" "$cluster_pods" "$project/tests/fixtures/api/pods-shop.json.gz" "$config" &
    helpers+=($!)
    until [[ -s $config ]]; do sleep 0.1; done
    url=$(sed -n "s/.*server: '\(.*\)'.*/\1/p" "$config")
    local own="nsprobe|pods|$cluster_pods|$nsprobe cluster -o json --deadline 5m --kubeconfig $config"
    local few=$((runs > 3 ? 3 : runs))
    if command -v "$kubectl" >/dev/null; then
        say "cluster: kubectl"
        python3 "$here/bench.d/pairs.py" --section cluster --row "100,000 pods" --runs "$few" --memory "$own" \
            "kubectl -o wide|lines|$((cluster_pods + 1))|$kubectl --kubeconfig $config --cache-dir $scratch/kubectl get pods -A --chunk-size=500 -o wide" \
            >"$scratch/cluster.kubectl"
        /usr/bin/time -f %M -o "$scratch/peak" "$kubectl" --kubeconfig "$config" --cache-dir "$scratch/kubectl" \
            get pods -A --chunk-size=500 -o wide >/dev/null
        say "cluster: kubectl's peak memory is $(($(<"$scratch/peak") / 1024)) MiB"
    fi
    say "cluster: curl and jq"
    python3 "$here/bench.d/pairs.py" --section cluster --row "100,000 pods, the same pages" --runs "$few" "$own" \
        "curl, jq|lines|$cluster_pods|$here/bench.d/pods-by-curl $url" >"$scratch/cluster.curl"
    forget_namespaces
}
