#!/usr/bin/env python3
"""bench_flood.py SECONDS PAGE: floods of 10,000 clients, with honest requests before and beside them; see scripts/flood."""
import os
import pathlib
import platform
import re
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from harness.flood import WAVE_S, Flood, Honest, Peak, first, route  # noqa: E402
from harness.world import World, why_not  # noqa: E402

ALL = "silent,half,tls,head,spam,record"
# Name, sources, distance from one to the next, what the clients do.
RUNS = [
    ("silent, one address", 1, 1, "silent"),
    ("all kinds, one address", 1, 1, ALL),
    ("all kinds, 256 addresses of a /24", 256, 1, ALL),
    ("all kinds, 255 networks", 255, 256, ALL),
    ("handshakes alone, 255 networks", 255, 256, "spam"),
    ("half a record after the handshake, 255 networks", 255, 256, "record"),
]
BEGIN, END = "<!-- flood:begin -->", "<!-- flood:end -->"


class Bench(World):
    """The tests' world, without tests."""

    node_config = {"network": {"perSession": {"maxConnections": 4096, "maxNewPerSecond": 1000, "maxNewPerHostPerSecond": 1000}}}


def honest(world, session, seconds):
    asking = Honest(world, session, per_second=40)
    time.sleep(seconds)
    return asking.end()


def rows(world, seconds):
    session = world.lab.open(durationS=7200)
    world.proxy.tunnel(session).close()
    for name, sources, stride, mix in RUNS:
        before = honest(world, session, min(10, seconds))
        clients = 500 if mix == "spam" else 10_000
        flood = Flood(world.topology, sources, mix, clients=clients, seconds=seconds, stride=stride)
        try:
            peak = Peak(world.node.process)
            wave = honest(world, session, WAVE_S)
            beside, peak, seen = honest(world, session, seconds - WAVE_S), peak.end(), flood.end()
        finally:
            flood.kill()
        yield name, clients, seen, peak, before, wave, beside
        time.sleep(2)


def table(world, seconds):
    yield "| flood | clients | connections made | handshakes | RSS at most, kB | node's CPU | honest requests that succeeded | p95 before, ms | p95 in the first 3.5 s, ms | p95 from then on, ms |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, clients, seen, peak, before, wave, beside in rows(world, seconds):
        print(name, seen, before, wave, beside, file=sys.stderr, flush=True)
        both = lambda figures, key: f"{figures['known'][key]:.0f} / {figures['new'][key]:.0f}"
        asked = sum(f["asked"] for f in [*wave.values(), *beside.values()])
        good = sum(round(f["success"] * f["asked"]) for f in [*wave.values(), *beside.values()])
        yield (
            f"| {name} | {clients} | {seen['connected']} | {seen['handshakes']} | {peak.rss_kb} | {peak.cpu_percent:.0f} % "
            f"| {good} of {asked} ({100 * good / asked:.1f} %) | {both(before, 'p95')} | {both(wave, 'p95')} | {both(beside, 'p95')} |"
        )


def main(seconds, page):
    if reason := why_not():
        raise SystemExit(reason)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    Bench.setUpClass()
    try:
        route(Bench.topology)
        if not first(Bench):
            print("the kernel gives these processes no priority: times say nothing of the node", file=sys.stderr)
        lines = list(table(Bench(), seconds))
    finally:
        Bench.doClassCleanups()
    cpu = next((x.split(":", 1)[1].strip() for x in open("/proc/cpuinfo", encoding="utf-8") if x.startswith("model name")), platform.machine())
    said = f"Measured {time.strftime('%Y-%m-%d')} on {os.cpu_count()} cores ({cpu}), Linux {platform.release()}, {seconds} s each; "
    said += f"load average at the end {os.getloadavg()[2]:.1f}.\n\n" + "\n".join(lines)
    print(said)
    text = pathlib.Path(page).read_text(encoding="utf-8")
    new = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n{said}\n{END}", text, flags=re.S)
    pathlib.Path(page).write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
