"""Applies a desired state to the host it runs on, as a freshly started agent would: `python -m tests.contracts.network_apply FILE`.

The file is JSON: `home`, `vtep`, `desired` (a document of the controller), `guests` (port items that get a namespace behind their tap).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pileus.host import netns
from pileus.network.drivers.base import HostState, Settings
from pileus.network.drivers.linux.driver import LinuxDriver
from pileus.network.wire import Desired, PortItem, from_dict
from tests.contracts.network_world import Guest


def main() -> int:
    given = json.loads(Path(sys.argv[1]).read_text())
    for plain in given["guests"]:
        port = from_dict(PortItem, plain)
        if not netns.exists(f"guest-{port.id[:8]}"):
            Guest(port)
    state = HostState()
    driver = LinuxDriver(Settings(home=Path(given["home"]), host=given["host"], vtep=given["vtep"]))
    failures = driver.apply(state, state.merge(from_dict(Desired, given["desired"])))
    print(json.dumps({"failures": failures, "ports": driver.statuses(state).ports}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
