"""A compute agent of a test host with the libvirt driver, asked through a socket file instead of a bus: one JSON line each way.

    python -m tests.guest.agent_by_hand HOST ADDRESS HOME SOCKET IMAGE
"""

from __future__ import annotations

import json
import pathlib
import socketserver
import subprocess
import sys
from typing import Any

from pileus.compute.agent.calls import Calls
from pileus.compute.agent.disks import HttpsCarrier
from pileus.compute.agent.epochs import EpochBook
from pileus.compute.drivers.libvirt import LibvirtDriver, LibvirtSettings
from pileus.host import qemu_img
from pileus.kernel.errors import Failure


class Image:
    """An image service that knows one image."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def show(self, image_id: str) -> dict[str, Any]:
        return {"id": image_id, "disk_format": "qcow2", "size": self.path.stat().st_size}

    def download(self, _image_id: str) -> Any:
        with self.path.open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece


def main(host: str, address: str, home_name: str, socket_name: str, image: str) -> None:
    home = pathlib.Path(home_name)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    driver = LibvirtDriver(home, LibvirtSettings(host=host, address=address, virt_type="qemu"))
    calls = Calls(driver, EpochBook(home / "epochs.sqlite"), Image(pathlib.Path(image)), lambda _server_id: None)
    calls.moves.carrier = HttpsCarrier(driver, address, 0, home / "agent")
    driver.start(lambda _server_id: None)
    calls.ready.set()
    more = {
        "resources": lambda _payload: driver.resources().to_dict(),
        "states": lambda _payload: driver.states(),
        "listening": lambda _payload: subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines(),
        "files": lambda payload: sorted(p.name for p in (home / "instances" / payload["id"]).glob("*")),
        "disk": lambda payload: qemu_img.info(home / "instances" / payload["id"] / "disk", "qcow2").virtual_size,
        "job": lambda payload: driver._hypervisor._alive().lookupByUUIDString(payload["id"]).jobStats(1),
    }
    methods = {**{name: act for name, act in calls.methods().items()}, **more}

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked = json.loads(self.rfile.readline())
            try:
                answer = {"result": methods[asked["method"]](asked["payload"])}
            except Failure as failure:
                answer = {"error": [type(failure).__name__, failure.message]}
            except Exception as error:
                answer = {"error": [type(error).__name__, str(error)]}
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    socketserver.ThreadingUnixStreamServer.daemon_threads = True
    with socketserver.ThreadingUnixStreamServer(socket_name, Handler) as server:
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
