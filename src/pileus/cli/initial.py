"""The first content of a cloud, made once through its public API: flavors, guest image, external network, and project
and user `demo` with network, subnet, router, key pair and rules.

Each piece is looked for before it is made, so an interrupted first start is finished by the next one. When all is there
a mark is left, and nothing of it is ever touched again: what an administrator deletes stays deleted.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

import pileus
from pileus.cli.session import Session, password_of
from pileus.cli.terminal import Steps
from pileus.clients.base import Client
from pileus.kernel.config import Config
from pileus.server import shared
from pileus.server.secrets import write_private

# name, id, MB of memory, GB of disk, virtual CPUs
FLAVORS = (
    ("m1.nano", "42", 128, 1, 1),
    ("m1.micro", "84", 256, 1, 1),
    ("m1.tiny", "1", 512, 1, 1),
    ("m1.small", "2", 2048, 20, 1),
    ("m1.medium", "3", 4096, 40, 2),
    ("m1.large", "4", 8192, 80, 4),
    ("m1.xlarge", "5", 16384, 160, 8),
)
IMAGE = "guest"


def make(config: Config, steps: Steps) -> None:
    """Make what is missing, unless everything was made once."""
    mark = config.home / "initial.json"
    if mark.exists() and not shared.is_shared(config):
        return
    key = key_file(config.home)
    with shared.initial_content(config, mark) as content:
        if content.present is None and not mark.exists():
            with steps.step("flavors, image and networks"):
                _make(config)
        elif content.present is not None and not mark.exists():  # it was another controller
            write_private(key, content.present["demo_key"].encode())
        content.complete(key.read_text() if key.exists() else "")


def _make(config: Config) -> None:
    """Make what is missing."""
    admin = Session(config, "admin", "admin")
    _demo_user(admin)
    _flavors(admin)
    _guest_image(admin)
    external = _external_network(admin)
    demo = Session(config, "demo", "demo")
    _demo_network(demo, external)
    _demo_rules(demo)
    _demo_key(demo)


def _one(client: Client, path: str, collection: str, **query: Any) -> dict[str, Any] | None:
    """The first resource of a collection that fits, None when none does."""
    found = client.get(path, query=query)[collection]
    return found[0] if found else None


def _demo_user(admin: Session) -> None:
    identity = admin.clients.identity(admin.context)
    project = _one(identity, "/v3/projects", "projects", name="demo", domain_id="default")
    if project is None:
        body = {"name": "demo", "domain_id": "default", "description": "Project of the user demo"}
        project = identity.post("/v3/projects", {"project": body})["project"]
    user = _one(identity, "/v3/users", "users", name="demo", domain_id="default")
    if user is None:
        secret = password_of(admin.config.home, "demo")
        body = {"name": "demo", "domain_id": "default", "password": secret, "default_project_id": project["id"]}
        user = identity.post("/v3/users", {"user": body})["user"]
    role = _one(identity, "/v3/roles", "roles", name="member")
    assert role is not None, "bootstrap makes the role member"
    identity.put(f"/v3/projects/{project['id']}/users/{user['id']}/roles/{role['id']}")


def _flavors(admin: Session) -> None:
    compute = admin.clients.compute(admin.context)
    present = {flavor["name"] for flavor in compute.get("/v2.1/flavors")["flavors"]}
    for name, flavor_id, ram, disk, vcpus in FLAVORS:
        if name not in present:
            body = {"name": name, "id": flavor_id, "ram": ram, "disk": disk, "vcpus": vcpus}
            compute.post("/v2.1/flavors", {"flavor": body})


def guest_file(home: pathlib.Path) -> pathlib.Path | None:
    """The guest image: built into the home, or beside the package in a checkout."""
    checkout = pathlib.Path(pileus.__file__).resolve().parents[2]
    for path in (home / "guest" / "guest.qcow2", checkout / ".build" / "guest" / "guest.qcow2"):
        if path.exists():
            return path
    return None


def _guest_image(admin: Session) -> None:
    image = admin.clients.image(admin.context)
    found = _one(image, "/v2/images", "images", name=IMAGE)
    if found is not None and found["status"] == "active":
        return
    path = guest_file(admin.config.home)
    if path is None and not admin.config.pileus.simulate:
        return  # `pileus image build` makes one; everything else works without
    if found is None:
        kind = {"disk_format": "qcow2" if path else "raw", "container_format": "bare"}
        found = image.post("/v2/images", {"name": IMAGE, "visibility": "public", "min_ram": 64, **kind})
    chunks = _chunks(path) if path else iter([bytes(1 << 20)])
    headers = {"Content-Type": "application/octet-stream"}
    image.request("PUT", f"/v2/images/{found['id']}/file", chunks, headers=headers).read()


def _chunks(path: pathlib.Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _external_network(admin: Session) -> dict[str, Any]:
    network = admin.clients.network(admin.context)
    found = _one(network, "/v2.0/networks", "networks", name="public")
    if found is None:
        body = {
            "name": "public",
            "router:external": True,
            "is_default": True,
            "provider:network_type": "flat",
            "provider:physical_network": "public",
        }
        found = network.post("/v2.0/networks", {"network": body})["network"]
    if not found["subnets"]:
        options = admin.config.section("network")
        body = {
            "name": "public-subnet",
            "network_id": found["id"],
            "ip_version": 4,
            "cidr": options.external_cidr,
            "enable_dhcp": False,
        }
        network.post("/v2.0/subnets", {"subnet": body})
    return found


def _demo_network(demo: Session, external: dict[str, Any]) -> None:
    network = demo.clients.network(demo.context)
    own = {"project_id": demo.context.project_id}
    private = _one(network, "/v2.0/networks", "networks", name="private", **own)
    if private is None:
        private = network.post("/v2.0/networks", {"network": {"name": "private"}})["network"]
    subnet = _one(network, "/v2.0/subnets", "subnets", network_id=private["id"])
    if subnet is None:
        body = {"name": "private-subnet", "network_id": private["id"], "ip_version": 4, "cidr": "10.0.0.0/24"}
        subnet = network.post("/v2.0/subnets", {"subnet": body})["subnet"]
    router = _one(network, "/v2.0/routers", "routers", name="router1", **own)
    if router is None:
        body = {"name": "router1", "external_gateway_info": {"network_id": external["id"]}}
        router = network.post("/v2.0/routers", {"router": body})["router"]
    if _one(network, "/v2.0/ports", "ports", device_id=router["id"], network_id=private["id"]) is None:
        network.put(f"/v2.0/routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]})


def _demo_rules(demo: Session) -> None:
    """Ssh and ping to guests of the default group."""
    network = demo.clients.network(demo.context)
    group = _one(
        network, "/v2.0/security-groups", "security_groups", name="default", project_id=demo.context.project_id
    )
    assert group is not None, "every project has a default group"
    present = {(rule["protocol"], rule["port_range_min"]) for rule in group["security_group_rules"]}
    for protocol, port in (("icmp", None), ("tcp", 22)):
        if (protocol, port) not in present:
            body = {
                "security_group_id": group["id"],
                "direction": "ingress",
                "ethertype": "IPv4",
                "protocol": protocol,
                "port_range_min": port,
                "port_range_max": port,
            }
            network.post("/v2.0/security-group-rules", {"security_group_rule": body})


def key_file(home: pathlib.Path) -> pathlib.Path:
    """The private key of demo's key pair."""
    return home / "keys" / "demo_ed25519"


def _demo_key(demo: Session) -> None:
    path = key_file(demo.config.home)
    if not path.exists():
        made = ed25519.Ed25519PrivateKey.generate()
        openssh = serialization.PrivateFormat.OpenSSH
        write_private(path, made.private_bytes(serialization.Encoding.PEM, openssh, serialization.NoEncryption()))
    private = serialization.load_ssh_private_key(path.read_bytes(), None)
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    compute = demo.clients.compute(demo.context)
    if not any(entry["keypair"]["name"] == "demo" for entry in compute.get("/v2.1/os-keypairs")["keypairs"]):
        compute.post("/v2.1/os-keypairs", {"keypair": {"name": "demo", "public_key": public.decode()}})
