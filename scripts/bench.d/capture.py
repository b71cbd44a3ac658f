"""Captures floods with each tool in turns; writes one line of JSON a run. TOOL is name|pattern|command[;;command…]:
several commands run at once, {n} is the number of each and {file} the file it writes. FLOOD likewise."""

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


class Tool:
    def __init__(self, text):
        self.name, rest = text.split("|", 1)
        self.pattern, commands = rest.rsplit("|", 1)
        self.commands = commands.split(";;")


class Run:
    """One capture of one flood: CPU seconds of all its processes, packets they say they have, packets sent a second."""

    def __init__(self, tool, netns, floods, rate, packets, folder):
        self.sent = packets * len(floods)
        started = []
        for number, command in enumerate(tool.commands):
            out = tempfile.TemporaryFile()
            path = os.path.join(folder, f"flood{number}.pcap")
            pid, _ = runner.start(command.replace("{file}", path), netns, out.fileno())
            started.append((pid, out, path))
        # They are ready when they have said on what they listen and have had a moment to bind.
        for _, out, _ in started:
            for _ in range(100):
                if os.fstat(out.fileno()).st_size:
                    break
                time.sleep(0.05)
        time.sleep(0.5)
        words = [shlex.split(f.format(packets=packets, rate=rate)) for f in floods]
        senders = [subprocess.Popen(w, stdout=subprocess.PIPE, text=True) for w in words]
        said = [sender.communicate()[0] for sender in senders]
        if any(sender.returncode for sender in senders):
            raise SystemExit("the flood failed")
        # As it really was: a sender may be slower than it was asked to be.
        self.rate = sum(float(rate) for rate in said)
        time.sleep(0.5)
        self.cpu, self.code, self.packets = 0.0, 0, 0
        for pid, _, _ in started:
            os.kill(pid, signal.SIGINT)
        for pid, out, path in started:
            _, status, usage = os.wait4(pid, 0)
            out.seek(0)
            # Lines may come before what is said at the end.
            out.seek(max(0, os.fstat(out.fileno()).st_size - 65536))
            found = re.search(tool.pattern, out.read().decode(errors="replace"))
            self.packets += int(found.group(1)) if found else 0
            self.cpu += usage.ru_utime + usage.ru_stime
            self.code = self.code or os.waitstatus_to_exitcode(status)
            if os.path.exists(path):
                os.unlink(path)

    def lost(self):
        """The share that is missing; the kernel's own words on the wire make up for none."""
        return max(0.0, 1 - self.packets / self.sent)


def busy(count):
    """Processes that do nothing but compute."""
    return [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(count)]


def highest(run):
    """The highest rate that was carried without loss, packets a second: the flood's own, as it really was."""
    low, best, rate = 25_000, 0, 100_000
    high = None
    while high is None or high / low > 1.08:
        one = run(rate)
        # Less than was asked for: the sender is at its end, and this is the answer.
        slow = one.rate < rate * 0.9
        if one.lost() == 0:
            best, low = max(best, one.rate), rate
            if slow:
                break
            rate = rate * 2 if high is None else (low * high) ** 0.5
        else:
            high = rate
            if high <= low:
                break
            rate = (low * high) ** 0.5
        rate = int(rate)
    return best


def main():
    options = argparse.ArgumentParser()
    for name in ("row", "folder"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--netns", help="where the tools that do not enter by themselves are started")
    options.add_argument("--flood", required=True)
    options.add_argument("--runs", type=int, default=10)
    options.add_argument("--packets", type=int, default=200_000)
    options.add_argument("--rate", type=int, default=100_000)
    options.add_argument("--busy", type=int, default=0, help="cores kept busy meanwhile")
    options.add_argument("--highest", action="store_true", help="look for the highest rate without loss")
    options.add_argument("tool", nargs="+")
    args = options.parse_args()
    tools = [Tool(text) for text in args.tool]
    floods = args.flood.split(";;")

    def capture(at, rate, packets=args.packets):
        # The first enters by itself.
        return Run(tools[at], args.netns if at else None, floods, rate, packets, args.folder)

    def write(at, peer, pair, **figures):
        line = {"section": "rate" if args.highest else "capture", "row": args.row, "tool": tools[at].name,
                "against": tools[peer].name, "pair": pair, "wall": None, **figures}
        print(json.dumps(line), flush=True)

    others = busy(args.busy)
    try:
        for pair in range(args.runs):
            for peer in range(1, len(tools)):
                order = (0, peer) if pair % 2 == 0 else (peer, 0)
                if args.highest:
                    # A second at each rate.
                    best = {at: highest(lambda rate, at=at: capture(at, rate, rate)) for at in order}
                    twice = int(2 * best[peer])
                    for at in order:
                        over = capture(at, twice, twice)
                        write(at, peer, pair, code=over.code, rate=best[at], over=over.rate, lost=over.lost())
                    continue
                for at in order:
                    one = capture(at, args.rate)
                    write(at, peer, pair, cpu=one.cpu, code=one.code, packets=one.packets, sent=one.sent,
                          cpu_us=one.cpu / one.packets * 1e6 if one.packets else None)
    finally:
        for other in others:
            other.kill()
            other.wait()


main()
