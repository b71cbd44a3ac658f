# shellcheck shell=bash
# systemd as a node's PID 1: journald, D-Bus, containerd by Debian's own unit, and a kubelet whose words are a file.

# systemd_prepare ROOT: of everything this machine has installed, only what the node needs is started.
systemd_prepare() {
    local root=$1 unit units
    units=$root/etc/systemd/system
    # The overlay's view of them; whatever the node wants is named below.
    rm -rf "$units" "$root"/{lib,usr/lib}/systemd/system/*.wants "$root"/{lib,usr/lib}/systemd/system-generators \
        "$root/etc/systemd/journald.conf" "$root/etc/systemd/journald.conf.d" "$root/var/log/journal"
    mkdir -p "$units/lab.target.wants" "$units/containerd.service.d" "$root/etc/systemd/journald.conf.d" \
        "$root/var/lib/kubelet"
    : >"$root/etc/fstab"
    tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    mknod -m 666 "$root/dev/console" c 1 3
    ln -s /dev/null "$units/tmp.mount"
    for unit in systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket dbus.socket \
        dbus.service; do
        ln -s "/lib/systemd/system/$unit" "$units/lab.target.wants/$unit"
    done
    cat >"$units/lab.target" <<'UNIT'
[Unit]
Description=A lab node
Requires=basic.target
AllowIsolate=yes
UNIT
    # The kernel's buffer is that of the whole machine: other labs' kills are none of this node's.
    cat >"$root/etc/systemd/journald.conf.d/lab.conf" <<'UNIT'
[Journal]
Storage=auto
ReadKMsg=no
RateLimitIntervalSec=0
UNIT
    # shellcheck disable=SC2016
    cat >"$units/containerd.service.d/lab.conf" <<'UNIT'
[Service]
ExecStartPre=
ExecStartPost=/bin/sh -c 'echo $MAINPID >/run/containerd.pid'
UNIT
    # As kubeadm's package has it, but for the time between two starts.
    cat >"$root/lib/systemd/system/kubelet.service" <<'UNIT'
[Unit]
Description=kubelet: The Kubernetes Node Agent
After=containerd.service
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/local/bin/kubelet /usr/local/lib/kubelet-says --config=/var/lib/kubelet/config.yaml
Restart=always
RestartSec=500ms

[Install]
WantedBy=lab.target
UNIT
    ln -s /lib/systemd/system/kubelet.service "$units/lab.target.wants/kubelet.service"
    # No kubelet is packaged: this one, a shell by its name, says what one was recorded to say, and ends as one ended.
    mkdir -p "$root"/usr/local/{bin,lib}
    cp "$(readlink -f /bin/sh)" "$root/usr/local/bin/kubelet"
    cat >"$root/usr/local/lib/kubelet-says" <<'SCRIPT'
cd /var/lib/kubelet || exit
touch says
if [ -s exit-code ]; then
    cat says
    exit "$(cat exit-code)"
fi
tail -q -n +1 -F says &
wait
SCRIPT
}

# systemd_become: replaces the calling shell.
systemd_become() {
    exec env container=lab /lib/systemd/systemd --system --unit=lab.target --log-target=journal --show-status=no
}
