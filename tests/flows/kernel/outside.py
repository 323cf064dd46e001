"""A small world outside of the service: a port service and one host, both in a folder of files.

The port service makes ports under ids of its own choosing and can list them by device; the host runs one guest per id and
refuses whoever comes with a lower epoch than it has seen.
"""

from __future__ import annotations

import json
import pathlib

from pileus.kernel import ids


class OldEpoch(Exception):
    """The host has heard of a later worker."""


class World:
    def __init__(self, folder: pathlib.Path) -> None:
        self.ports_folder = folder / "ports"
        self.guests_folder = folder / "guests"
        self.epochs_folder = folder / "epochs"
        for path in (self.ports_folder, self.guests_folder, self.epochs_folder):
            path.mkdir(parents=True, exist_ok=True)

    # the port service

    def create_port(self, device_id: str) -> str:
        port_id = ids.new_id()
        _write(self.ports_folder / port_id, {"device_id": device_id})
        return port_id

    def ports(self, device_id: str) -> list[str]:
        return sorted(path.name for path in self.ports_folder.iterdir() if json.loads(path.read_text())["device_id"] == device_id)

    def delete_port(self, port_id: str) -> None:
        (self.ports_folder / port_id).unlink(missing_ok=True)

    # the host

    def spawn(self, guest_id: str, epoch: int, port_id: str) -> None:
        self._heard(guest_id, epoch)
        _write(self.guests_folder / guest_id, {"port_id": port_id})

    def destroy(self, guest_id: str, epoch: int) -> None:
        self._heard(guest_id, epoch)
        (self.guests_folder / guest_id).unlink(missing_ok=True)

    def guest(self, guest_id: str) -> dict[str, str] | None:
        path = self.guests_folder / guest_id
        return json.loads(path.read_text()) if path.exists() else None

    def _heard(self, guest_id: str, epoch: int) -> None:
        path = self.epochs_folder / guest_id
        seen = int(path.read_text()) if path.exists() else 0
        if epoch < seen:
            raise OldEpoch(f"{epoch} after {seen}")
        path.write_text(str(epoch))


def _write(path: pathlib.Path, content: dict[str, str]) -> None:
    new = path.parent.parent / f"{path.name}.new"
    new.write_text(json.dumps(content))
    new.replace(path)
