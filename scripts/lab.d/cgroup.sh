# shellcheck shell=bash disable=SC2154
# A node's cgroups: one of the same name under every hierarchy. They bound what a node's pods may use, and they
# are the record of what a lab has started: only what is found in them is ever killed.

cgroup_of() {
    echo "nsprobe-lab-$name-node$1"
}

# The mounted hierarchies: version 1 controllers and, beside or instead of them, version 2.
cgroup_hierarchies() {
    awk '$3 ~ /^cgroup2?$/ {print $2}' /proc/mounts
}

cgroup_is_v2_only() {
    [[ -e /sys/fs/cgroup/cgroup.controllers ]]
}

cgroup_make() {
    local hierarchy folder
    for hierarchy in $(cgroup_hierarchies); do
        folder=$hierarchy/$(cgroup_of "$1")
        mkdir "$folder"
        if [[ -e $folder/cpuset.cpus && -e $folder/cgroup.clone_children ]]; then
            # Version 1: a cpuset takes no process before it has CPUs and memory, and children inherit neither.
            cat "$hierarchy/cpuset.cpus" >"$folder/cpuset.cpus"
            cat "$hierarchy/cpuset.mems" >"$folder/cpuset.mems"
            echo 1 >"$folder/cgroup.clone_children"
        fi
    done
}

# Moves the calling (sub)shell into the node.
cgroup_enter() {
    local hierarchy folder
    for hierarchy in $(cgroup_hierarchies); do
        folder=$hierarchy/$(cgroup_of "$1")
        [[ ! -d $folder/init ]] || folder=$folder/init
        echo "$BASHPID" >"$folder/cgroup.procs"
    done
}

# Version 2 alone: a cgroup that hands controllers to children must hold no process itself.
cgroup_delegate() {
    local folder controllers tries pid
    cgroup_is_v2_only || return 0
    folder=/sys/fs/cgroup/$(cgroup_of "$1")
    controllers=$(sed 's/^/+/; s/ / +/g' "$folder/cgroup.controllers")
    mkdir "$folder/init"
    for ((tries = 0; tries < 50; tries++)); do
        # One that is just ending stands in the list and cannot be moved.
        for pid in $(<"$folder/cgroup.procs"); do
            echo "$pid" 2>/dev/null >"$folder/init/cgroup.procs" || true
        done
        echo "$controllers" 2>/dev/null >"$folder/cgroup.subtree_control" && return
        sleep 0.02
    done
    die "node $1: its cgroup cannot be handed on: $(cat "$folder/cgroup.procs")"
}

# cgroups_named PREFIX: the nodes' folders under every hierarchy, not what is below them.
cgroups_named() {
    local hierarchy top
    for hierarchy in $(cgroup_hierarchies); do
        for top in "$hierarchy/$1"*; do
            [[ ! -d $top ]] || echo "$top"
        done
    done
}

cgroups_pids() {
    # Cgroups come and go while they are read.
    cgroups_named "nsprobe-lab-$name-node" |
        xargs -r -I TOP find TOP -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un || true
}

# Kills what runs in the nodes and waits for its end. A node's PID 1 takes its whole PID namespace along.
cgroups_kill() {
    local pids tries
    for ((tries = 0; tries < 500; tries++)); do
        pids=$(cgroups_pids)
        [[ -n $pids ]] || return 0
        # shellcheck disable=SC2086
        kill -KILL $pids 2>/dev/null || true
        sleep 0.02
    done
    die "these processes do not end: $pids"
}

cgroups_remove() {
    local tries
    # A process that has just ended keeps its cgroup busy for a moment.
    for ((tries = 0; tries < 250; tries++)); do
        cgroups_named "nsprobe-lab-$name-node" |
            xargs -r -I TOP find TOP -depth -type d -exec rmdir {} + 2>/dev/null || true
        [[ -n $(cgroups_named "nsprobe-lab-$name-node") ]] || return 0
        sleep 0.02
    done
    die "these cgroups cannot be removed: $(cgroups_named "nsprobe-lab-$name-node")"
}
