# shellcheck shell=bash disable=SC2154
# A node: PID, mount, network, UTS, IPC and cgroup namespaces, held by a PID 1 that only reaps.

node_start() {
    local folder=$lab/node$1 tries
    mkdir -p "$folder/upper/usr/local/sbin" "$folder/work" "$folder/root" "$folder/containerd"
    cp "$cache/pause" "$folder/upper/usr/local/sbin/lab-init"
    cgroup_make "$1"
    (
        cgroup_enter "$1"
        # setsid: Ctrl-C in the terminal that brought the lab up must not end it later.
        exec setsid env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
            unshare --pid --fork --kill-child --mount --net --uts --ipc --cgroup --propagation private \
            "$here/lab.d/node-init" "$folder" "nsprobe-lab:$name:node$1" "node$1" "$systemd"
    ) </dev/null >"$folder/log" 2>&1 &
    # Not this shell's job any more: its end is not news.
    disown
    for ((tries = 0; tries < 500; tries++)); do
        if [[ -s $folder/pid ]]; then
            cgroup_delegate "$1"
            return
        fi
        [[ -d /proc/$! ]] || break
        sleep 0.02
    done
    cat "$folder/log" >&2
    die "node $1 did not start"
}

# node_enter NODE CMD…: becomes CMD in the node.
node_enter() {
    local pid
    pid=$(<"$lab/node$1/pid")
    cgroup_enter "$1"
    exec nsenter -t "$pid" -a -- "${@:2}"
}

node_run() {
    (node_enter "$@")
}

# --- the runtime ---------------------------------------------------------------------------------------

node_runtime_up() {
    node_run "$1" sh -c 'mkdir -p /etc/containerd && cat >/etc/containerd/config.toml' <<TOML
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause_image"
  # Without CAP_SYS_RESOURCE a score cannot be lowered, and every sandbox would fail.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
TOML
    node_runtime_start "$1"
    # The socket is there a moment after the process.
    pod_maker "$1" ready
    node_run "$1" ctr -n k8s.io images import - <"$cache/pause.tar" >/dev/null
    node_run "$1" ctr -n k8s.io images import - <"$cache/app.tar" >/dev/null
    pod_maker "$1" ready "$pause_image" "$app_image"
}

node_runtime_start() {
    if [[ $systemd == on ]]; then
        node_systemd_ready "$1"
        node_run "$1" systemctl restart containerd.service
        return
    fi
    node_run "$1" sh -c 'setsid containerd </dev/null >>/var/log/containerd.log 2>&1 &
        echo $! >/run/containerd.pid'
}

# Until systemd takes orders.
node_systemd_ready() {
    local tries
    for ((tries = 0; tries < 500; tries++)); do
        ! node_run "$1" systemctl is-active --quiet lab.target 2>/dev/null || return 0
        sleep 0.02
    done
    node_run "$1" systemctl list-jobs >&2 || true
    die "node $1: systemd does not reach lab.target"
}

# By the PID that the node knows, in the node: nothing outside can be hit.
node_runtime_signal() {
    # shellcheck disable=SC2016
    node_run "$1" sh -c 'kill -s "$0" "$(cat /run/containerd.pid)"' "$2"
}

node_runtime_restart() {
    node_runtime_signal "$1" KILL 2>/dev/null || true
    node_runtime_start "$1"
    pod_maker "$1" ready "$pause_image" "$app_image"
}

node_pids() {
    local pid inner outer containerd=null
    pid=$(<"$lab/node$1/pid")
    inner=$(cat "/proc/$pid/root/run/containerd.pid" 2>/dev/null || echo none)
    # The last number of NSpid is the PID inside.
    for outer in $(cgroups_pids); do
        if [[ $(readlink "/proc/$outer/ns/pid") == "$(readlink "/proc/$pid/ns/pid")" ]] &&
            grep -qs "^NSpid:.*[[:space:]]$inner\$" "/proc/$outer/status"; then
            containerd=$outer
        fi
    done
    echo '{"node":"node'"$1"'","init_pid":'"$pid"',"containerd_pid":'"$containerd"',"root":"/proc/'"$pid"'/root",' \
        '"socket":"/proc/'"$pid"'/root/run/containerd/containerd.sock","cgroup":"'"$(cgroup_of "$1")"'"}'
}
