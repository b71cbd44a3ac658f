#!/bin/bash
# Makes a Debian machine a worker: run by Vagrant, as root, with the variables that the Vagrantfile names.
# May be run again, with other MTUs.
set -euo pipefail

files=/tmp/nsprobe-files
other=$((3 - NUMBER))
export DEBIAN_FRONTEND=noninteractive

vxlan_mac() {
    printf '0e:f1:00:00:00:%02x' "$1"
}

install_runtime() {
    local package
    for package in containerd runc containernetworking-plugins; do
        dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed && continue
        apt-get update -q
        apt-get install -y -q --no-install-recommends containerd runc containernetworking-plugins
        return
    done
}

configure_runtime() {
    mkdir -p /etc/containerd /etc/cni/net.d
    cat >/etc/containerd/config.toml <<TOML
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/nsprobe-lab/pause:1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
TOML
    cat >/etc/cni/net.d/10-flannel.conflist <<JSON
{
  "name": "cbr0",
  "cniVersion": "0.4.0",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isDefaultGateway": true,
      "hairpinMode": true,
      "mtu": $POD_MTU,
      "ipam": {"type": "host-local", "ranges": [
        [{"subnet": "10.244.$NUMBER.0/24"}],
        [{"subnet": "fd00:10:244:$NUMBER::/64"}]
      ]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
JSON
    systemctl enable --now containerd
    systemctl restart containerd
}

# A unit, so that the VXLAN is there again after a reboot.
configure_network() {
    cat >/etc/sysctl.d/90-nsprobe.conf <<SYSCTL
net.ipv4.ip_forward = 1
net.ipv6.conf.all.forwarding = 1
SYSCTL
    sysctl -q -p /etc/sysctl.d/90-nsprobe.conf
    cat >/usr/local/sbin/vxlan-up <<SCRIPT
#!/bin/sh
set -e
ip link delete flannel.1 2>/dev/null || true
# Wider first: a VXLAN may be set wider than its device allows only while that one is wider still.
ip link set eth1 mtu "\$(ip -d link show eth1 | sed -n 's/.*maxmtu \([0-9]*\).*/\1/p')"
ip link add flannel.1 address $(vxlan_mac "$NUMBER") type vxlan id 1 dev eth1 local 10.10.0.$((NUMBER + 10)) \\
    dstport 8472 nolearning df $VXLAN_DF
ip link set flannel.1 mtu $VXLAN_MTU
ip link set eth1 mtu $NODE_MTU
ip address add 10.244.$NUMBER.0/32 dev flannel.1
ip address add fd00:10:244:ff::$NUMBER/128 dev flannel.1 nodad
ip link set flannel.1 up
bridge fdb replace $(vxlan_mac $other) dev flannel.1 dst 10.10.0.$((other + 10)) self permanent
ip neighbour replace 10.244.$other.0 lladdr $(vxlan_mac $other) dev flannel.1 nud permanent
ip route replace 10.244.$other.0/24 via 10.244.$other.0 dev flannel.1 onlink
ip neighbour replace fd00:10:244:ff::$other lladdr $(vxlan_mac $other) dev flannel.1 nud permanent
ip route replace fd00:10:244:$other::/64 via fd00:10:244:ff::$other dev flannel.1 onlink
SCRIPT
    chmod 755 /usr/local/sbin/vxlan-up
    cat >/etc/systemd/system/vxlan.service <<UNIT
[Unit]
Description=VXLAN to the other worker
After=network-online.target
Wants=network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/vxlan-up
[Install]
WantedBy=multi-user.target
UNIT
    systemctl daemon-reload
    systemctl enable vxlan
    systemctl restart vxlan
}

# Optional: images need no registry, and the pod maker speaks CRI, so a pod needs no kubelet.
make_pod() {
    [[ -e $files/lab-pod ]] || return 0
    install -m 755 "$files/lab-pod" /usr/local/bin/lab-pod
    ctr -n k8s.io images import "$files/pause.tar"
    ctr -n k8s.io images import "$files/app.tar"
    lab-pod --root / ready localhost/nsprobe-lab/pause:1 localhost/nsprobe-lab/app:1
    lab-pod --root / show "pod-$NUMBER" >/dev/null 2>&1 || lab-pod --root / run "pod-$NUMBER"
}

install_runtime
configure_runtime
configure_network
install -m 755 "$files/nsprobe" /usr/local/bin/nsprobe
make_pod
rm -rf "$files"
