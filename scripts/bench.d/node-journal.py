"""Writes what a worker logs as export text for systemd-journal-remote: node-journal.py FIRST_US STEP_US COUNT SEED

Of ten entries four are a kubelet's, three a runtime's, two of sshd and sessions, one the kernel's, with the fields that
journald gives each. Every thousandth of the kubelet's tells of PLEG.
"""

import random
import sys

BOOT = "34eb662fb4954cf3a1aea67cdba40ca5"
MACHINE = "5e209c9894a34848b0808318dc03b40a"


def service(name, pid, path):
    return (
        f"_TRANSPORT=stdout\n_STREAM_ID={name.encode().hex():0<32.32}\nPRIORITY=6\nSYSLOG_FACILITY=3\n"
        f"SYSLOG_IDENTIFIER={name}\n_PID={pid}\n_UID=0\n_GID=0\n_COMM={name}\n_EXE={path}\n"
        f"_CMDLINE={path} --config=/var/lib/{name}/config\n_CAP_EFFECTIVE=1ffffffffff\n_SELINUX_CONTEXT=unconfined\n"
        f"_SYSTEMD_CGROUP=/system.slice/{name}.service\n_SYSTEMD_UNIT={name}.service\n_SYSTEMD_SLICE=system.slice\n"
        f"_SYSTEMD_INVOCATION_ID={name.encode().hex():f<32.32}\n"
    )


KUBELET = service("kubelet", 610, "/usr/bin/kubelet")
CONTAINERD = service("containerd", 480, "/usr/bin/containerd")
SSHD = service("ssh", 530, "/usr/sbin/sshd")
KERNEL = "_TRANSPORT=kernel\nPRIORITY=6\nSYSLOG_FACILITY=0\nSYSLOG_IDENTIFIER=kernel\n"
SAYS = (
    'I1125 14:03:05.{n:06}     610 reconciler_common.go:251] "operationExecutor.VerifyControllerAttachedVolume started for'
    ' volume \\"kube-api-access-{r:05x}\\" (UniqueName: \\"kubernetes.io/projected/{u:032x}\\") pod \\"web-{n}\\"'
)
RUNS = (
    'time="2026-11-25T14:03:05.{n:09}Z" level=info msg="StartContainer for \\"{u:064x}\\" returns successfully" ns=k8s.io'
)


def main():
    first, step, count, seed = map(int, sys.argv[1:])
    numbers = random.Random(seed)
    out = sys.stdout
    for n in range(count):
        time = first + n * step
        head = (
            f"__CURSOR=x\n__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={n * step + seed * count * step}\n"
            f"_BOOT_ID={BOOT}\n_MACHINE_ID={MACHINE}\n_HOSTNAME=node1\n"
        )
        kind = n % 10
        many = numbers.getrandbits(256)
        if kind in (0, 3, 6, 9):
            words = SAYS.format(n=n, r=many & 0xFFFFF, u=many & (1 << 128) - 1)
            if n % 10000 == 0:
                words = (
                    f"E1125 14:03:05.{n:06}     610 kubelet.go:2412] \"Skipping pod synchronization\" err=\"PLEG is not "
                    f'healthy: pleg was last seen active {n}s ago; threshold is 3m0s"'
                )
            body = KUBELET
        elif kind in (1, 4, 7):
            words, body = RUNS.format(n=n, u=many), CONTAINERD
        elif kind in (2, 5):
            words, body = f"Connection closed by 10.0.{many & 255}.{many >> 8 & 255} port {n % 65536} [preauth]", SSHD
        else:
            words = f"cni0: port {n % 250}(veth{many & 0xFFFFFFFF:08x}) entered forwarding state"
            body = f"{KERNEL}_SOURCE_MONOTONIC_TIMESTAMP={n * step}\n"
        out.write(f"{head}{body}MESSAGE={words}\n\n")


main()
