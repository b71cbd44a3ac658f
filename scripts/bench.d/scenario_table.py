"""The table of all scenarios out of the runs of scenarios.py: scenario_table.py text|markdown FILE"""

import json
import statistics
import sys

from tables import span, table, times


def cell(runs, ours):
    """Right or wrong, median time, packets."""
    right = sum(run["right"] for run in runs)
    stopped = any(run["stopped"] for run in runs)
    said = [run["said"] for run in runs if not run["right"]]
    wall = span(statistics.median(run["wall"] for run in runs))
    packets = round(statistics.median(run["packets"] for run in runs))
    took = f"{'> ' if stopped else ''}{wall}, {packets}"
    if ours:
        return f"{right}/{len(runs)}, {took}" + (f" (says {said[0]})" if said else "")
    if right == len(runs):
        return f"✓ {took}"
    what = f"says {said[0]}" if said[0] else "no answer"
    return f"✗ {what}, {took}" if not right else f"✗ {len(runs) - right} of {len(runs)} {what}, {took}"


def main():
    markdown = sys.argv[1] == "markdown"
    with open(sys.argv[2], encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    lines = [line for line in lines if line["section"] == "scenarios"]
    if not lines:
        return
    tools = list(dict.fromkeys(line["tool"] for line in lines))
    order = ["nsprobe", "ping bisect", "fping bisect", "tracepath", "traceroute --mtu", "scamper trace -M"]
    tools.sort(key=order.index)
    names = sorted({line["row"] for line in lines})
    rows, behind, good, all_runs = [], [], 0, 0
    right_on = dict.fromkeys(tools, 0)
    for name in names:
        here = {tool: [line for line in lines if (line["row"], line["tool"]) == (name, tool)] for tool in tools}
        ours = here["nsprobe"]
        good += sum(run["right"] for run in ours)
        all_runs += len(ours)
        median = {tool: statistics.median(run["wall"] for run in runs) for tool, runs in here.items() if runs}
        for tool, runs in here.items():
            right_on[tool] += bool(runs) and all(run["right"] for run in runs)
        answers = [t for t in tools[1:] if here[t] and all(r["right"] and not r["stopped"] for r in here[t])]
        fastest = min((median[tool] for tool in answers), default=None)
        ahead = "only one" if fastest is None else times(fastest / median["nsprobe"])
        if fastest is not None and fastest < median["nsprobe"]:
            behind.append(name)
        mtu = f"IPv{ours[0]['family']} {name.replace('-six', '')}" if markdown else name
        rows.append([mtu, *(cell(here[t], t == "nsprobe") if here[t] else "–" for t in tools), ahead])
    head = ["path", *tools, "fastest right ÷ nsprobe"]
    said = ", ".join(f"{tool} on {right_on[tool]}" for tool in tools[1:])
    print(
        f"nsprobe was right in {good:,} of {all_runs:,} runs over {len(names)} scenarios. Right in every run: nsprobe on "
        f"{right_on['nsprobe']}, {said}."
        + (f" Slower than the fastest that is right: {', '.join(behind)}." if behind else "")
        + " Cells: right or not, median time, median packets.\n"
    )
    print(table(head, rows, markdown))


if __name__ == "__main__":
    main()
