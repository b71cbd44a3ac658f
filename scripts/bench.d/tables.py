"""Tables out of the runs: tables.py text|markdown BINARY-BYTES WAY FILE…"""

import json
import statistics
import sys

MIB = 1024 * 1024


def span(seconds):
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s"


def times(ratio):
    return f"{ratio:.1f}×" if ratio < 9.95 else f"{ratio:,.0f}×"


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def pairs(lines, peer, key):
    """The peer's figure over ours, of each pair."""
    mine, theirs = {}, {}
    for line in lines:
        if line["against"] == peer and line[key]:
            (theirs if line["tool"] == peer else mine)[line["pair"]] = line[key]
    return [theirs[pair] / mine[pair] for pair in theirs if mine.get(pair)]


def names(lines, key):
    return list(dict.fromkeys(line[key] for line in lines))


def table(head, rows, markdown):
    if markdown:
        out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        out += ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join(out)
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in [head, *rows])


def correct(lines):
    good = sum(line["right"] for line in lines)
    if good == len(lines):
        return "right"
    bad = next(line for line in lines if not line["right"])
    said = "no answer" if bad["said"] is None else f"says {bad['said']}"
    return f"WRONG, {said}" if not good else f"WRONG {len(lines) - good} of {len(lines)}, {said}"


ORDER = ["clear", "narrowed", "black hole, PTB", "black hole, bridge", "black hole, RTT"]


def place(row):
    family, _, kind = row.partition(", ")
    return family, [kind.startswith(start) for start in ORDER].index(True)


def mtu(lines, markdown):
    tools = names(lines, "tool")
    rows = []
    for row in sorted(names(lines, "row"), key=place):
        cells = [row]
        here = [line for line in lines if line["row"] == row]
        for tool in tools:
            of = [line for line in here if line["tool"] == tool]
            if not of:
                cells.append("–")
                continue
            over = "> " if any(line["code"] is None for line in of) else ""
            cell = f"{correct(of)}, {over}{span(median(line['wall'] for line in of))}"
            packets = round(median(line["packets"] for line in of))
            cell += f", {packets} packet{'s' * (packets != 1)}"
            ratios = pairs(here, tool, "wall")
            if tool != tools[0] and ratios:
                cell = f"{over}**{times(median(ratios))}** {cell}" if markdown else f"{over}{times(median(ratios))} {cell}"
            cells.append(cell)
        rows.append(cells)
    return table(["path", *tools], rows, markdown)


def node(lines, markdown):
    rows = []
    for row in names(lines, "row"):
        here = [line for line in lines if line["row"] == row]
        for tool in names(here, "tool"):
            of = [line for line in here if line["tool"] == tool]
            ratio = lambda key: times(median(pairs(here, tool, key))) if of[0]["tool"] != here[0]["tool"] else "1"
            rows.append(
                [row, tool, correct(of), span(median(line["wall"] for line in of)), ratio("wall"),
                 span(median(line["cpu"] for line in of)), ratio("cpu")]
            )
    return table(["command", "tool", "answer", "wall", "wall ratio", "CPU", "CPU ratio"], rows, markdown)


def links(lines, markdown):
    calls = {(line["row"], line["tool"]): line["calls"] for line in lines if line["section"] == "calls"}
    peak = {line["row"]: line["kib"] for line in lines if line["section"] == "memory"}
    runs = [line for line in lines if line["section"] == "links"]
    rows, walls = [], {}
    for row in names(runs, "row"):
        here = [line for line in runs if line["row"] == row]
        for tool in names(here, "tool"):
            of = [line for line in here if line["tool"] == tool]
            ours = tool == here[0]["tool"]
            wall, cpu = (median(line[key] for line in of) for key in ("wall", "cpu"))
            if ours:
                walls[int(row)] = wall
            ratio = (lambda key: "1") if ours else (lambda key: times(median(pairs(here, tool, key))))
            count = calls.get((row, tool))
            rows.append(
                [row, tool, correct(of), span(wall), ratio("wall"), span(cpu), ratio("cpu"),
                 f"{peak[row] / 1024:.1f} MiB" if ours and row in peak else "–",
                 f"{count / int(row):.0f}" if count else "–"]
            )
    head = ["pods", "tool", "answer", "wall", "wall ratio", "CPU", "CPU ratio", "peak memory", "calls a pod"]
    text = table(head, rows, markdown)
    few, many = min(walls), max(walls)
    if few < many:
        more = (walls[many] - walls[few]) / (many - few)
        text += f"\n\nFrom {few} to {many} pods, one pod more costs nsprobe {more * 1e6:.0f} µs of wall time."
    return text


def capture(lines, markdown):
    rows = []
    for row in names(lines, "row"):
        here = [line for line in lines if line["row"] == row]
        for tool in names(here, "tool"):
            of = [line for line in here if line["tool"] == tool]
            # A few more than were sent: what the kernel says by itself.
            lost = max(0, 1 - sum(line["packets"] for line in of) / sum(line["sent"] for line in of))
            ratio = times(median(pairs(here, tool, "cpu_us"))) if tool != here[0]["tool"] else "1"
            cost = median(line["cpu_us"] for line in of)
            rows.append([row, tool, f"{cost:.2f} µs" if cost else "–", ratio, f"{lost * 100:.2f} %"])
    return table(["packets", "tool", "CPU a packet", "ratio", "missing"], rows, markdown)


def rate(lines, markdown):
    rows = []
    for row in names(lines, "row"):
        here = [line for line in lines if line["row"] == row]
        for tool in names(here, "tool"):
            of = [line for line in here if line["tool"] == tool]
            # Ours over the peer's: more is better here.
            ratio = times(1 / median(pairs(here, tool, "rate"))) if tool != here[0]["tool"] else "1"
            # The sender may be at its end before the captor is.
            over = median(line["over"] for line in of)
            lost = f"{median(line['lost'] for line in of) * 100:.1f} % of {over:,.0f}/s"
            rows.append([row, tool, f"{median(line['rate'] for line in of):,.0f}/s", ratio, lost])
    return table(["packets", "tool", "highest rate without loss", "nsprobe ÷ it", "lost at twice the other's"], rows, markdown)


def size(lines, binary, markdown):
    rows = [["static binary", f"{binary / MIB:.2f} MiB", "12 MiB"]]
    peak = {}
    for line in lines:
        name = "mtu" if line["row"].startswith("IPv") else line["row"]
        name = f"links of {name} pods" if name.isdecimal() else name
        peak[name] = max(peak.get(name, 0), line["kib"])
    limit = lambda name: "64 MiB" if name.startswith("sockets") else "200 MiB" if name.endswith(",000 pods") else "20 MiB"
    rows += [[f"peak memory, {name}", f"{kib / 1024:.1f} MiB", limit(name)] for name, kib in peak.items()]
    return table(["what", "measured", "limit"], rows, markdown)


def belongs(line, section):
    """System calls, and the memory of links, stand in the table of links too."""
    also = line["section"] == "calls" or (line["section"] == "memory" and line["row"].isdecimal())
    return line["section"] == section or (section == "links" and also)


def main():
    markdown, binary = sys.argv[1] == "markdown", int(sys.argv[2])
    way = sys.argv[3]
    lines = [json.loads(line) for path in sys.argv[4:] for line in open(path, encoding="utf-8")]
    sections = (
        ("mtu", f"Path MTU: whole-process wall time, the others {way}; others ÷ nsprobe, median of the pairs", mtu),
        ("node", "A node of 250 pods; others ÷ nsprobe, median of the pairs", node),
        ("links", "The ledger of a node, against nsenter with ip -j -d link and ip -j route; loop ÷ nsprobe, median", links),
        ("sockets", "50,000 TCP sockets in one namespace; others ÷ nsprobe, median of the pairs", node),
        ("files", "Files of a node; others ÷ nsprobe, median of the pairs", node),
        ("cluster", "Pods of an API server on this machine; others ÷ nsprobe, median of the pairs", node),
        ("capture", "CPU time of a captured packet; others ÷ nsprobe, median of the pairs", capture),
        ("rate", "Floods into a file, kernel buffer 2 MiB; median of the pairs", rate),
        ("memory", "Size and memory", lambda of, md: size(of, binary, md)),
    )
    for section, title, make in sections:
        of = [line for line in lines if belongs(line, section)]
        if of or section == "memory":
            print(f"{'### ' if markdown else ''}{title}\n\n{make(of, markdown)}\n")


if __name__ == "__main__":
    main()
