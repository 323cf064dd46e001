"""What a call over the bus costs, by carrier: one JSON line each.

    python bench/bus.py                     within a process, over a Unix socket, and over a private RabbitMQ where one is installed
    python bench/bus.py --calls 500 local   some of them

The server is another process (but for `inside`); one caller, one call after another, a payload of 1 KiB there and back.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from benchlib import pct

from pileus.kernel.bus import Bus, BusUnavailable, LocalBus
from pileus.kernel.config import BusOptions

PAYLOAD = {"text": "x" * 1000}


def answer(bus: Bus) -> None:
    bus.serve("bench", {"echo": lambda payload: payload})


def measure(name: str, make: object, calls: int, *, apart: bool = True) -> None:
    """Calls from this process to one that serves; with `apart` false to itself."""
    assert callable(make)
    child = os.fork() if apart else 0
    if apart and not child:
        answer(make("server"))
        signal.pause()
    bus = make("caller")
    try:
        if not apart:
            answer(bus)
        until_served(bus)
        took = []
        used = time.process_time()
        for _ in range(calls):
            began = time.perf_counter()
            bus.call("bench", "echo", PAYLOAD)
            took.append(1000 * (time.perf_counter() - began))
        cpu = 1000 * (time.process_time() - used) / calls
        figures = {"p50_ms": round(pct(took, 50), 3), "p99_ms": round(pct(took, 99), 3), "caller_cpu_ms": round(cpu, 3)}
        print(json.dumps({"name": f"bus.call.{name}", "unit": "ms p50", "value": figures["p50_ms"], **figures, "n": calls,
                          "load1": round(os.getloadavg()[0], 1)}), flush=True)  # fmt: skip
    finally:
        bus.close()
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def until_served(bus: Bus) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            bus.call("bench", "echo", PAYLOAD, timeout=2.0)
        except BusUnavailable:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def rabbitmq(calls: int) -> None:
    from tests.brokers import SERVER, RabbitMQ  # noqa: PLC0415

    from pileus.kernel.bus.rabbitmq import RabbitBus  # noqa: PLC0415 - kombu is optional

    if not SERVER.exists():
        print("# RabbitMQ is not installed", file=sys.stderr)
        return
    broker = RabbitMQ()
    try:
        measure("rabbitmq", lambda role: RabbitBus(f"bench:{role}", BusOptions(url=broker.url)), calls)
    finally:
        broker.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("carriers", nargs="*", metavar="CARRIER", help="inside, local, rabbitmq; all of them when none is named")
    parser.add_argument("--calls", type=int, default=2000)
    arguments = parser.parse_args()
    chosen = arguments.carriers or ["inside", "local", "rabbitmq"]
    if "inside" in chosen:
        measure("inside", lambda role: LocalBus(f"bench:{role}"), arguments.calls, apart=False)
    if "local" in chosen:
        with tempfile.TemporaryDirectory(prefix="pileus-bus-") as folder:
            measure("local", lambda role: LocalBus(f"bench:{role}", pathlib.Path(folder)), arguments.calls)
    if "rabbitmq" in chosen:
        rabbitmq(arguments.calls)
    return 0


if __name__ == "__main__":
    sys.exit(main())
