"""Servers and images for tests of hypervisor drivers."""

from __future__ import annotations

import base64
import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

from pileus.compute.wire import FlavorDoc, GuestMetadata, ImageDoc, NicDoc, ServerDoc
from pileus.kernel import ids


class Images:
    """An image service that has the given bytes. Counts downloads."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.docs: dict[str, ImageDoc] = {}
        self.downloads = 0

    def add(self, content: bytes, disk_format: str = "raw", **properties: Any) -> ImageDoc:
        digest = hashlib.sha512(content).hexdigest()
        doc = ImageDoc(
            id=ids.new_uuid(), disk_format=disk_format, size=len(content), checksum=hashlib.md5(content).hexdigest(),
            os_hash_algo="sha512", os_hash_value=digest, properties=properties,
        )
        self.contents[doc.id], self.docs[doc.id] = content, doc
        return doc

    def add_file(self, path: pathlib.Path, disk_format: str, **properties: Any) -> ImageDoc:
        return self.add(path.read_bytes(), disk_format, **properties)

    def show(self, image_id: str) -> dict[str, Any]:
        return self.docs[image_id].to_dict()

    def download(self, image_id: str) -> Iterator[bytes]:
        self.downloads += 1
        content = self.contents[image_id]
        for start in range(0, len(content), 1 << 16):
            yield content[start : start + (1 << 16)]


def server(image: ImageDoc | None, *, nics: int = 1, user_data: str | None = None, **changes: Any) -> ServerDoc:
    """A server of the smallest flavor; fields by name."""
    server_id = changes.pop("id", None) or ids.new_uuid()
    flavor = {"id": "1", "name": "m1.nano", "vcpus": 1, "memory_mb": 128, "root_gb": 0} | changes.pop("flavor", {})
    ports = [ids.new_uuid() for _ in range(nics)]
    defaults: dict[str, Any] = {
        "id": server_id, "name": "vm", "hostname": "vm", "project_id": "p", "user_id": "u", "epoch": 1,
        "flavor": FlavorDoc(**flavor), "image": image,
        "metadata": GuestMetadata(
            meta_data={"uuid": server_id, "hostname": "vm.novalocal", "name": "vm", "launch_index": 0, "availability_zone": "nova",
                       "random_seed": "c2VlZA==", "project_id": "p", "devices": [], "public_keys": {"k": "ssh-ed25519 AAAA k"}},
            user_data=None if user_data is None else base64.b64encode(user_data.encode()).decode(),
            network_data={"links": [], "networks": [], "services": []},
        ),
        "nics": tuple(
            NicDoc(port_id=port, network_id="n", mac=f"fa:16:3e:{port[0:2]}:{port[2:4]}:{port[4:6]}", tap=f"tap{port[:11]}", mtu=1450)
            for port in ports
        ),
    }
    return ServerDoc(**{**defaults, **changes})
