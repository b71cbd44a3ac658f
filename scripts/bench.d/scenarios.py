"""Every scenario of tests/paths that namespaces can express: nsprobe and the others, right or wrong, time, packets.

scenarios.py --builder PROGRAM --nsprobe PROGRAM [OPTIONS]     writes a line of JSON a run to standard output.
"""

import argparse
import contextlib
import glob
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
import tomllib

import runner

HERE = os.path.dirname(os.path.abspath(__file__))
# What takes longer at the first try is left to the second phase, where waiting costs nobody anything.
FAST = 0.7
# Paths of one scenario at once, where a run is mostly waiting.
COPIES = 10


class Path:
    """A path that the builder holds until its standard input is closed."""

    def __init__(self, builder, file):
        self.process = subprocess.Popen([builder, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{builder} {file}: no path")
        self.about = json.loads(line)
        nodes = self.about.get("nodes", [])
        for node in nodes:
            # As the other benches: what a router says of an expired packet is not rationed.
            self.inside(node, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        for node, end in zip(nodes[:1] + nodes[-1:], ("right", "left")):
            # As on a wire: checksums filled in (scamper knows its IPv6 probes by them).
            self.inside(node, "ethtool", "-K", end, "tx", "off")

    @staticmethod
    def inside(node, *words):
        subprocess.run(["ip", "netns", "exec", node, *words], check=True, stdout=subprocess.DEVNULL)

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def peers(about):
    family, target = about["family"], about["target"]
    return [
        ("ping bisect", "bisect", f"{HERE}/ping-bisect {family} {target} {about['interface_mtu']}"),
        ("fping bisect", "bisect", f"{HERE}/fping-bisect {family} {target} {about['interface_mtu']}"),
        ("tracepath", "tracepath", f"tracepath -{family} -n {target}"),
        ("traceroute --mtu", "traceroute", f"traceroute -{family} -n --mtu {target}"),
        ("scamper trace -M", "scamper", f"scamper -c 'trace -M' -i {target}"),
    ]


def enter(about, inside):
    return "" if inside else f"nsenter --net=/run/netns/{about['netns']} "


def flush(about):
    runner.enter(about["netns"])
    for family in ("-4", "-6"):
        subprocess.run(["ip", family, "route", "flush", "cache"], check=False, stderr=subprocess.DEVNULL)
    runner.enter(None)


def recovery(file):
    """Seconds until what a scenario rations has filled up again: every run finds the path as it is described."""
    with open(file, "rb") as text:
        scenario = tomllib.load(text)
    limits = [scenario.get("target", {}).get("limit"), *(hop.get("ptb_limit") for hop in scenario.get("hop", []))]
    return max((burst / rate + 0.1 for burst, rate in filter(None, limits)), default=0)


def measure(about, tool, parser, command, patience, inside):
    flush(about)
    router = (about["router"], "left")
    before = runner.received(*router)
    ours = tool == "nsprobe"
    netns = about["netns"] if inside and not ours else None
    wall, _, code, text = runner.run(command, netns, patience)
    said = runner.claim(parser, text)
    mtu = about["path_mtu"]
    # A tool that has no answer where there is none is right.
    wanted = (f"{about['verdict']} {mtu}" if mtu else about["verdict"]) if ours else (str(mtu) if mtu else None)
    right = said == wanted if code is not None or wanted is None else False
    return {
        "section": "scenarios", "row": about["name"], "family": about["family"], "verdict": about["verdict"],
        "tool": tool, "wall": wall, "packets": runner.received(*router) - before, "said": said, "right": right,
        "stopped": code is None,
    }


def ours(about, nsprobe):
    return ("nsprobe", "mtu", f"{nsprobe} mtu -o json netns:{about['netns']} {about['target']}")


def several(job):
    """Runs of ours on a path of their own."""
    builder, nsprobe, file, count = job
    with Path(builder, file) as path:
        found = []
        for _ in range(count):
            found.append(measure(path.about, *ours(path.about, nsprobe), 60, False))
            time.sleep(recovery(file))
        return found


def slow(job):
    """Tools that wait for timeouts, one after the other, on a path of their own."""
    builder, file, names, patience, inside = job
    with Path(builder, file) as path:
        found = []
        for name, parser, command in peers(path.about):
            if name in names:
                command = enter(path.about, inside) + command
                found.append(measure(path.about, name, parser, command, patience, inside))
        return found


class Rested:
    """Paths of one scenario, each left alone until what it rations has filled up again."""

    def __init__(self, args, file, first):
        self.args, self.file, self.pause = args, file, recovery(file)
        self.paths = [(0, first)]

    def next(self):
        free, path = min(self.paths, key=lambda entry: entry[0])
        if free > time.monotonic() and len(self.paths) < COPIES:
            free, path = 0, Path(self.args.builder, self.file)
            self.paths.append((free, path))
        time.sleep(max(0, free - time.monotonic()))
        return path.about

    def measure(self, name, parser, command, patience):
        """One run of a tool, whose command is made for the path that it gets."""
        about = self.next()
        inside = self.args.inside and name != "nsprobe"
        line = measure(about, name, parser, command(about), patience, inside)
        again = time.monotonic() + self.pause
        self.paths = [(again, path) if path.about is about else (free, path) for free, path in self.paths]
        return line

    def close(self):
        for _, path in self.paths[1:]:
            path.close()


def quick(args, file, emit):
    """Phase one, one scenario at a time: what is fast, in turns. Returns (ours waits, the others that wait)."""
    with Path(args.builder, file) as path, contextlib.closing(Rested(args, file, path)) as rested:
        if "skip" in path.about:
            return None
        mine = ("nsprobe", "mtu", lambda about: ours(about, args.nsprobe)[2])
        rested.measure(*mine, 60)
        first = rested.measure(*mine, 60)
        emit(first)
        names = [] if args.ours else [(name, parser) for name, parser, _ in peers(path.about)]
        if first["wall"] > FAST:
            return True, [name for name, _ in names]
        waiting, fast = [], []
        for at, (name, parser) in enumerate(names):
            tool = (name, parser, lambda about, at=at: enter(about, args.inside) + peers(about)[at][2])
            line = rested.measure(*tool, FAST)
            if line["stopped"]:
                waiting.append(name)
            else:
                emit(line)
                fast.append(tool)
        for run in range(1, args.runs):
            emit(rested.measure(*mine, 60))
            # In turns with ours: a noisy moment is everybody's.
            if run % max(1, args.runs // args.peer_runs) == 0:
                for tool in fast:
                    emit(rested.measure(*tool, FAST * 2))
        return False, waiting


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--builder", required=True)
    options.add_argument("--nsprobe", required=True)
    options.add_argument("--runs", type=int, default=100)
    options.add_argument("--peer-runs", type=int, default=5)
    options.add_argument("--patience", type=float, default=45)
    options.add_argument("--inside", action="store_true")
    options.add_argument("--ours", action="store_true", help="nsprobe alone")
    options.add_argument("--only", default="", help="regular expression on the names")
    args = options.parse_args()

    def emit(line):
        print(json.dumps(line), flush=True)

    def say(text):
        print(f"bench: {text}", file=sys.stderr, flush=True)

    files = sorted(glob.glob(os.path.join(HERE, "../../tests/paths/*.toml")))
    files = [file for file in files if re.search(args.only, os.path.basename(file)[:-5])]
    begin = time.monotonic()
    again, others, skipped = [], [], 0
    for at, file in enumerate(files):
        if at % 10 == 0:
            say(f"scenario {at + 1} of {len(files)}, {time.monotonic() - begin:.0f} s")
        said = quick(args, file, emit)
        if said is None:
            skipped += 1
            continue
        waits, waiting = said
        if waits:
            share = max(1, (args.runs - 1) // COPIES)
            again += [(args.builder, args.nsprobe, file, share)] * min(COPIES, args.runs - 1)
        # A path for each: caches and limits of one are no matter of another.
        others += [(args.builder, file, [name], args.patience, args.inside) for name in waiting]
    say(f"{len(again) + len(others)} comparisons that wait, {time.monotonic() - begin:.0f} s so far")
    with multiprocessing.Pool(24) as pool:
        jobs = [pool.apply_async(several, (job,)) for job in again] + [pool.apply_async(slow, (job,)) for job in others]
        for job in jobs:
            for line in job.get():
                emit(line)
        # Not by its own end, which kills: the handlers that end a tool hang on that.
        pool.close()
        pool.join()
    say(f"done in {time.monotonic() - begin:.0f} s; {skipped} scenarios are for the virtual path only")


main()
