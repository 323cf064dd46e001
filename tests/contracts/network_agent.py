"""The network agent of a test host, until it is killed: `python -m tests.contracts.network_agent HOST VTEP BUS HOME`.

BUS is the directory of the sockets of a controller outside. The host's way out is its link `ext0`.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from pileus.kernel.bus import LocalBus
from pileus.network.agent.loops import Keeper
from pileus.network.drivers.base import Settings
from pileus.network.drivers.linux.driver import LinuxDriver

HEARTBEAT_SECONDS = 0.5
REPORT_SECONDS = 5


def main() -> None:
    host, vtep, bus_directory, home = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {host} %(message)s")
    bus = LocalBus(host, Path(bus_directory))
    driver = LinuxDriver(Settings(home=Path(home), host=host, vtep=vtep, external_interface="ext0"))
    keeper = Keeper(host, driver, bus)
    bus.serve(f"agent.{host}", {"network.nudge": keeper.nudged, "network.taps": keeper.taps_changed})
    keeper.start()
    for beat in range(1, sys.maxsize):
        keeper.heartbeat()
        keeper.want_pull()
        if beat % (REPORT_SECONDS / HEARTBEAT_SECONDS) == 0:
            keeper.want_report()
        time.sleep(HEARTBEAT_SECONDS)


if __name__ == "__main__":
    main()
