"""Captures a flood with each tool in turns; writes one line of JSON a run. TOOL is name|pattern|command."""

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
import time

import runner

PACKETS = 200_000
RATE = 100_000


def capture(command, netns, flood, path, pattern):
    with tempfile.TemporaryFile() as out:
        pid, _ = runner.start(command.replace("{file}", path), netns, out.fileno())
        # It is ready when its file is there and it has had a moment to bind.
        for _ in range(100):
            if os.path.exists(path) and os.path.getsize(path) >= 0:
                break
            time.sleep(0.05)
        time.sleep(0.5)
        flood = flood.format(packets=PACKETS, rate=RATE)
        subprocess.run(shlex.split(flood), check=True)
        time.sleep(0.5)
        os.kill(pid, signal.SIGINT)
        _, status, usage = os.wait4(pid, 0)
        out.seek(0)
        text = out.read().decode(errors="replace")
    os.unlink(path)
    found = re.search(pattern, text)
    return usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status), int(found.group(1)) if found else 0


def main():
    options = argparse.ArgumentParser()
    for name in ("row", "folder", "netns", "flood"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--runs", type=int, default=10)
    options.add_argument("tool", nargs="+")
    args = options.parse_args()
    tools = []
    for tool in args.tool:
        name, rest = tool.split("|", 1)
        pattern, command = rest.rsplit("|", 1)
        tools.append((name, pattern, command))
    for pair in range(args.runs):
        for peer in range(1, len(tools)):
            for at in (0, peer) if pair % 2 == 0 else (peer, 0):
                name, pattern, command = tools[at]
                path = os.path.join(args.folder, "flood.pcap")
                netns = args.netns if at else None
                cpu, code, packets = capture(command, netns, args.flood, path, pattern)
                line = {
                    "section": "capture", "row": args.row, "tool": name, "against": tools[peer][0], "pair": pair,
                    "wall": None, "cpu": cpu, "code": code, "packets": packets, "sent": PACKETS,
                    "cpu_us": cpu / packets * 1e6 if packets else None,
                }
                print(json.dumps(line), flush=True)


main()
