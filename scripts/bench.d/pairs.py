"""Runs our tool and others in turns, A B B A …, and writes one line of JSON a run.

pairs.py [OPTIONS] TOOL TOOL…     TOOL is name|parser|expected|command; the first is ours, and runs where this
                                  process is; the others run inside --netns.
"""

import argparse
import json
import subprocess

import runner


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--section", required=True)
    options.add_argument("--row", required=True)
    options.add_argument("--runs", type=int, default=10)
    options.add_argument("--patience", type=float, default=600)
    options.add_argument("--netns")
    options.add_argument("--count", metavar="NETNS:INTERFACE")
    options.add_argument("--flush", action="store_true", help="forget cached path MTUs before each run")
    options.add_argument("--memory", action="store_true", help="the peak of ours as well")
    options.add_argument("tool", nargs="+")
    args = options.parse_args()
    tools = [tool.split("|", 3) for tool in args.tool]

    def flush():
        runner.enter(args.netns)
        for family in ("-4", "-6"):
            subprocess.run(["ip", family, "route", "flush", "cache"], check=False, stderr=subprocess.DEVNULL)
        runner.enter(None)

    def one(at, peer, pair):
        name, parser, expected, command = tools[at]
        if args.flush:
            flush()
        before = runner.received(*args.count.split(":")) if args.count else 0
        wall, cpu, code, text = runner.run(command, args.netns if at else None, args.patience)
        packets = runner.received(*args.count.split(":")) - before if args.count else None
        said = runner.claim(parser, text)
        print(
            json.dumps(
                {
                    "section": args.section, "row": args.row, "tool": name, "against": tools[peer][0], "pair": pair,
                    "wall": wall, "cpu": cpu, "code": code, "packets": packets, "said": said,
                    "right": said == expected if code is not None else False,
                }
            ),
            flush=True,
        )

    for at in range(len(tools)):
        # What is read for the first time comes from the disk.
        if args.runs > 1:
            runner.run(tools[at][3], args.netns if at else None, args.patience)
    if len(tools) == 1:
        for pair in range(args.runs):
            one(0, 0, pair)
    for pair in range(args.runs):
        for peer in range(1, len(tools)):
            for at in (0, peer) if pair % 2 == 0 else (peer, 0):
                one(at, peer, pair)
    if args.memory:
        name, _, _, command = tools[0]
        peak = max(runner.peak_memory(command) for _ in range(3))
        print(json.dumps({"section": "memory", "row": args.row, "tool": name, "kib": peak}), flush=True)


main()
