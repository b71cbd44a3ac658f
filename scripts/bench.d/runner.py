"""Runs one command and measures it: wall time, CPU time, peak memory, packets, and what it claims."""

import ctypes
import json
import os
import re
import shlex
import signal
import tempfile
import time

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
_running = 0


def enter(name):
    """Moves this thread into a network namespace of /run/netns, or back to where it began (None)."""
    fd = os.open(f"/run/netns/{name}", os.O_RDONLY) if name else os.dup(_home)
    try:
        if _libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns", name)
    finally:
        os.close(fd)


def _end(signum, _frame):
    if _running:
        try:
            os.killpg(_running, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if signum == signal.SIGTERM:
        os._exit(143)


signal.signal(signal.SIGTERM, _end)
signal.signal(signal.SIGALRM, _end)


def received(netns, interface):
    """Packets that have arrived at an interface."""
    enter(netns)
    try:
        with open("/proc/thread-self/net/dev", encoding="ascii") as table:
            for line in table:
                name, _, rest = line.partition(":")
                if name.strip() == interface:
                    return int(rest.split()[1])
    finally:
        enter(None)
    raise SystemExit(f"no interface {interface} in {netns}")


def start(command, netns, out):
    """Starts a command inside a namespace with its output in a file, in a process group of its own."""
    words = shlex.split(command)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, out, 1),
        (os.POSIX_SPAWN_DUP2, out, 2),
    ]
    if netns:
        enter(netns)
    try:
        begin = time.perf_counter()
        pid = os.posix_spawnp(words[0], words, os.environ, file_actions=actions, setpgroup=0)
    finally:
        if netns:
            enter(None)
    return pid, begin


def run(command, netns=None, patience=600):
    """One run: (seconds, CPU seconds, exit code, or None when its time was up, output)."""
    global _running
    with tempfile.TemporaryFile() as out:
        pid, begin = start(command, netns, out.fileno())
        _running = pid
        signal.setitimer(signal.ITIMER_REAL, patience)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - begin
        signal.setitimer(signal.ITIMER_REAL, 0)
        _running = 0
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL and wall >= patience:
            code = None
        out.seek(0)
        text = out.read().decode(errors="replace")
    return wall, usage.ru_utime + usage.ru_stime, code, text


def peak_memory(command, netns=None):
    """Peak resident KiB. By time(1): a child of this process would begin with the size of Python."""
    with tempfile.NamedTemporaryFile() as report:
        run(f"/usr/bin/time -q -f %M -o {report.name} {command}", netns)
        return int(report.read().split()[-1])


def claim(parser, text):
    """What a tool says: the path MTU, or the number of things that it found; None when it says nothing."""
    patterns = {
        "tracepath": r"Resume: pmtu (\d+)",
        "traceroute": r"F=(\d+)",
        "scamper": r"\[\*?mtu: (\d+)\]",
        "bisect": r"^(\d+)$",
    }
    if parser in patterns:
        found = re.findall(patterns[parser], text, re.M)
        return found[-1] if found else None
    if parser == "lines":
        return str(len(text.splitlines()))
    if parser == "rows":
        return str(sum(line.startswith("  tcp ") for line in text.splitlines()))
    try:
        document = json.loads(text)
    except ValueError:
        return None
    if parser == "mtu":
        mtu = document.get("path_mtu_bytes")
        return f"{document.get('verdict')} {mtu}" if mtu else document.get("verdict")
    if parser == "pleg":
        found = [f["evidence"] for f in document["findings"] if f["id"] == "node.pleg_unhealthy"]
        return str(next((e["value"] for e in sum(found, []) if e["what"] == "lines"), 0))
    if parser == "sockets":
        return str(sum(len(namespace["sockets"]) for namespace in document.get("namespaces", [])))
    return str(len(document.get(parser, [])))
