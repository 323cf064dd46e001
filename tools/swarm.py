"""Many simulated hosts in few processes, beside a cloud that `pileus up --simulate` started: to see how the control plane bears them.

    python -m tools.swarm --hosts 1000              until interrupted; PILEUS_HOME or --home says which cloud
    python -m tools.swarm --hosts 5000 --ramp 120   5 processes of 1,000 hosts, which arrive within two minutes

Every host runs the agents of compute and network as a real one does (their calls, keepers and fake drivers); only the carrier differs: one thread waits for
the sockets of all hosts, a few do what is asked, one wakes what is due. A host costs about 0.4 MB and nothing while nothing happens. Hosts keep nothing:
stopped, they are gone, with their guests.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import os
import pathlib
import queue
import random
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import msgspec

from pileus.cli.session import load_config
from pileus.compute.agent.assembly import assemble as compute_agent
from pileus.kernel import log
from pileus.kernel.assembly import AgentEnv
from pileus.kernel.bus import LocalBus
from pileus.kernel.bus.base import Server
from pileus.kernel.config import Config
from pileus.network.agent.assembly import calls_of, loops_of
from pileus.network.agent.loops import Keeper as NetworkKeeper
from pileus.network.drivers.base import Settings
from pileus.network.drivers.fake import FakeDriver as FakeNetwork

PER_PROCESS = 1000
_STACK = 256 << 10
_WORKERS = 16


class Timers:
    """Calls functions again and again on one thread, each at a phase of its own."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, float, Callable[[], object]]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="timers", daemon=True).start()

    def every(self, seconds: float, act: Callable[[], object]) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + random.random() * seconds, next(self._count), seconds, act))
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                due, _, seconds, act = heapq.heappop(self._due)
                heapq.heappush(self._due, (due + seconds, next(self._count), seconds, act))
            act()


class SwarmBus(LocalBus):
    """The local bus for thousands of topics in one process: no thread belongs to a topic or a connection."""

    def __init__(self, node: str, directory: pathlib.Path) -> None:
        super().__init__(node, directory)
        self._poll = select.epoll()
        self._accepting: dict[int, tuple[socket.socket, Server]] = {}
        self._open: dict[int, tuple[socket.socket, Server]] = {}
        self._arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(_WORKERS):
            threading.Thread(target=self._serve_arrived, name=f"swarm bus {number}", daemon=True).start()
        threading.Thread(target=self._wait, name="swarm bus", daemon=True).start()

    def _start_accepting(self, listener: socket.socket, server: Server) -> None:
        self._accepting[listener.fileno()] = (listener, server)
        self._poll.register(listener, select.EPOLLIN)

    def _wait(self) -> None:
        while True:
            for number, _ in self._poll.poll():
                accepting = self._accepting.get(number)
                if accepting is None:
                    self._arrived.put(number)
                    continue
                connection, _ = accepting[0].accept()
                connection.settimeout(5.0)
                self._open[connection.fileno()] = (connection, accepting[1])
                self._poll.register(connection, select.EPOLLIN | select.EPOLLONESHOT)

    def _serve_arrived(self) -> None:
        while True:
            number = self._arrived.get()
            connection, server = self._open[number]
            try:
                self._answer_one(connection, server)
                self._poll.modify(connection, select.EPOLLIN | select.EPOLLONESHOT)
            except (OSError, EOFError, msgspec.MsgspecError, struct.error):
                del self._open[number]
                connection.close()


class Crew:
    """The hosts of one process."""

    def __init__(self, config: Config, folder: pathlib.Path) -> None:
        self.config, self.folder = config, folder
        self.bus = SwarmBus(f"swarm:{os.getpid()}", config.home / "run" / "bus")
        self.timers = Timers()

    def add(self, number: int) -> None:
        """One more host joins the cloud."""
        host = f"swarm-{number:05d}"
        config = self.config.for_host(host, self.folder / host)
        options = msgspec.structs.replace(self.config.section("compute"), fake_vcpus=64, fake_memory_mb=262_144, fake_local_gb=4_000)
        compute = compute_agent(AgentEnv(host=host, options=options, config=config, bus=self.bus, clients=None))
        vtep = f"10.{200 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        settings = Settings(home=config.home, host=host, vtep=vtep)
        network = NetworkKeeper(host, FakeNetwork(settings), self.bus)
        self.bus.serve(f"agent.{host}", compute.calls)
        self.bus.serve(f"agent.{host}", calls_of(network))
        compute.start()
        network.start()
        for loop in (*compute.loops, *loops_of(network)):
            self.timers.every(loop.every, lambda run=loop.run: run(None))  # type: ignore[misc]


def crew(config: Config, folder: pathlib.Path, numbers: range, gap: float) -> None:
    """Run some hosts, which arrive one after another, until the process is ended."""
    log.to_file(config.home / "logs" / f"swarm-{numbers.start}.log", "swarm")
    threading.stack_size(_STACK)
    mine = Crew(config, folder)
    for number in numbers:
        mine.add(number)
        time.sleep(gap)
    signal.pause()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.swarm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--first", type=int, default=1, help="number of the first host")
    parser.add_argument("--ramp", type=float, default=30.0, help="seconds in which the hosts arrive")
    parser.add_argument("--home", type=pathlib.Path, default=None)
    arguments = parser.parse_args(argv)
    config = load_config(arguments.home or pathlib.Path(os.environ["PILEUS_HOME"]))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pileus-swarm-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    end = arguments.first + arguments.hosts
    starts = range(arguments.first, end, PER_PROCESS)
    gap = arguments.ramp / min(arguments.hosts, PER_PROCESS)
    children = []
    for start in starts:
        pid = os.fork()
        if not pid:
            try:
                crew(config, folder, range(start, min(start + PER_PROCESS, end)), gap)
            finally:
                os._exit(1)
        children.append(pid)
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        shutil.rmtree(folder, ignore_errors=True)
    return 0



if __name__ == "__main__":
    sys.exit(main())
