"""A compute service with what it needs: a real placement, a host with the fake driver, and small stand-ins for images and networks."""

from __future__ import annotations

import copy
import ipaddress
import threading
import uuid

from pileus.clients import Clients
from pileus.clients.base import LocalBinding, PeerConflict, PeerInvalid, PeerNotFound
from pileus.clients.placement import PlacementClient
from pileus.compute.agent.calls import Calls
from pileus.compute.agent.disks import HttpsCarrier
from pileus.compute.agent.epochs import EpochBook
from pileus.compute.drivers.fake import FakeDriver, FakeHost
from pileus.compute.loops.providers import providers
from pileus.compute.room import ROOM
from pileus.compute.wire import Report
from pileus.kernel import clock
from pileus.kernel.bus import LocalBus
from pileus.kernel.testing import ADMIN, MEMBER, PROJECT, SERVICE, make_client
from pileus.placement.room import ROOM as PLACEMENT

IMAGE = "11111111-1111-4111-8111-111111111111"
QUEUED_IMAGE = "22222222-2222-4222-8222-222222222222"
NETWORK = "33333333-3333-4333-8333-333333333333"
DEFAULT_GROUP = "44444444-4444-4444-8444-444444444444"
WEB_GROUP = "55555555-5555-4555-8555-555555555555"


def new():
    return str(uuid.uuid4())


class FakeImages:
    def __init__(self):
        self.images = {
            IMAGE: self.image(IMAGE, "active"),
            QUEUED_IMAGE: self.image(QUEUED_IMAGE, "queued"),
        }

    @staticmethod
    def image(image_id, status, **more):
        return {
            "id": image_id, "name": "tiny", "status": status, "size": 1 << 20, "virtual_size": None,
            "disk_format": "qcow2", "container_format": "bare", "min_disk": 0, "min_ram": 0,
            "checksum": "c" * 32, "os_hash_algo": "sha512", "os_hash_value": "h" * 128, "owner": PROJECT,
            "visibility": "public", "hw_disk_bus": "virtio", **more,
        }

    def show(self, image_id):
        if image_id not in self.images:
            raise PeerNotFound("No image found", status=404)
        return dict(self.images[image_id])

    def download(self, image_id):
        yield b"data"


class FakeNetworks:
    """Networks, subnets, ports and groups in memory, with the filters that compute uses."""

    def __init__(self):
        self.lock = threading.RLock()
        self.calls = []
        self.refuse = {}
        self.next_ip = 10
        self.networks = {}
        self.subnets = {}
        self.ports = {}
        self.bindings = {}
        self.prepared = []
        self.groups = {
            DEFAULT_GROUP: {"id": DEFAULT_GROUP, "name": "default", "tenant_id": PROJECT, "security_group_rules": []},
            WEB_GROUP: {"id": WEB_GROUP, "name": "web", "tenant_id": PROJECT, "security_group_rules": []},
        }
        self.floatingips = {}
        self.add_network(NETWORK, "private")

    def add_network(self, network_id, name, *, tenant_id=PROJECT, shared=False, external=False, subnet=True):
        subnet_id = new()
        self.networks[network_id] = {
            "id": network_id, "name": name, "tenant_id": tenant_id, "shared": shared, "router:external": external,
            "mtu": 1450, "subnets": [subnet_id] if subnet else [],
        }
        if subnet:
            self.subnets[subnet_id] = {
                "id": subnet_id, "network_id": network_id, "cidr": "10.0.0.0/24", "ip_version": 4,
                "gateway_ip": "10.0.0.1", "dns_nameservers": ["9.9.9.9"], "host_routes": [], "enable_dhcp": True,
            }
        return network_id

    def _list(self, kind, filters):
        with self.lock:
            self.calls.append(f"list {kind}")
            fields = filters.pop("fields", None)
            found = []
            for item in getattr(self, kind).values():
                for key, wanted in filters.items():
                    key = {"router_external": "router:external"}.get(key, key)
                    if key == "fixed_ips":
                        address = wanted.removeprefix("ip_address=")
                        if address not in [ip["ip_address"] for ip in item["fixed_ips"]]:
                            break
                    elif item.get(key) not in (wanted if isinstance(wanted, list) else [wanted]):
                        break
                else:
                    found.append(copy.deepcopy(item) if not fields else {f: copy.deepcopy(item.get(f)) for f in fields})
            return found

    def list_networks(self, **filters):
        return self._list("networks", filters)

    def list_subnets(self, **filters):
        return self._list("subnets", filters)

    def list_ports(self, **filters):
        return self._list("ports", filters)

    def list_security_groups(self, **filters):
        return self._list("groups", filters)

    def create_security_group(self, body):
        group = {"id": new(), "tenant_id": PROJECT, "security_group_rules": [], **body}
        self.groups[group["id"]] = group
        return dict(group)

    def delete_security_group(self, group_id):
        del self.groups[group_id]

    def create_security_group_rule(self, body):
        rule = {"id": new(), "tenant_id": PROJECT, "remote_ip_prefix": None, "remote_group_id": None, **body}
        self.groups[body["security_group_id"]]["security_group_rules"].append(rule)
        return dict(rule)

    def delete_security_group_rule(self, rule_id):
        for group in self.groups.values():
            for rule in group["security_group_rules"]:
                if rule["id"] == rule_id:
                    group["security_group_rules"].remove(rule)
                    return
        raise PeerNotFound(f"Security group rule {rule_id} does not exist", status=404)

    def list_floatingips(self, **filters):
        return self._list("floatingips", filters)

    def show_port(self, port_id):
        if port_id not in self.ports:
            raise PeerNotFound(f"Port {port_id} could not be found.", status=404)
        return copy.deepcopy(self.ports[port_id])

    def show_network(self, network_id):
        return dict(self.networks[network_id])

    def create_port(self, body):
        with self.lock:
            self.calls.append("create port")
            if "create" in self.refuse:
                raise self.refuse["create"]
            if body.get("id") in self.ports:
                body = {"NeutronError": {"type": "PortExists", "message": "Port exists.", "detail": ""}}
                raise PeerConflict("Port exists.", status=409, body=body)
            network = self.networks.get(body["network_id"])
            if network is None:
                raise PeerNotFound("Network could not be found.", status=404)
            wanted = [ip.get("ip_address") for ip in body.get("fixed_ips", [])]
            if wanted:
                address = wanted[0]
                if ipaddress.ip_address(address) not in ipaddress.ip_network("10.0.0.0/24"):
                    raise PeerInvalid("IP address is not a valid IP for any of the subnets.", status=400)
            else:
                address = f"10.0.{self.next_ip // 250}.{self.next_ip % 250}"
                self.next_ip += 1
            port = {
                "id": new(), "mac_address": f"fa:16:3e:00:{len(self.ports) // 256:02x}:{len(self.ports) % 256:02x}",
                "status": "DOWN", "fixed_ips": [{"subnet_id": s, "ip_address": address} for s in network["subnets"]],
                "security_groups": [DEFAULT_GROUP], "device_id": "", "device_owner": "", "tenant_id": PROJECT, "revision_number": 1,
                "binding:vif_type": "tap" if body.get("binding:host_id") else "unbound", **body,
            }
            port["fixed_ips"] = [{"subnet_id": s, "ip_address": address} for s in network["subnets"]]
            self.ports[port["id"]] = port
            return copy.deepcopy(port)

    def update_port(self, port_id, body, revision=None):
        with self.lock:
            self.calls.append("update port")
            if port_id not in self.ports:
                raise PeerNotFound("Port could not be found.", status=404)
            if "update" in self.refuse:
                raise self.refuse["update"]
            if revision not in {None, self.ports[port_id]["revision_number"]}:
                raise PeerConflict("Constrained to another revision.", status=412)
            if body.get("binding:host_id", self.ports[port_id].get("binding:host_id")) != self.ports[port_id].get("binding:host_id"):
                body = {"status": "DOWN", **body}
            self.ports[port_id].update(body, revision_number=self.ports[port_id]["revision_number"] + 1)
            if "binding:host_id" in body:
                self.ports[port_id]["binding:vif_type"] = "tap" if body["binding:host_id"] else "unbound"
            return copy.deepcopy(self.ports[port_id])

    def create_port_binding(self, port_id, host, **others):
        with self.lock:
            self.calls.append("create binding")
            if "bind" in self.refuse:
                raise self.refuse["bind"]
            if port_id not in self.ports:
                raise PeerNotFound("Port could not be found.", status=404)
            prepared = self.bindings.setdefault(port_id, [])
            if host in prepared or self.ports[port_id]["binding:host_id"] == host:
                raise PeerConflict("Binding for port exists.", status=409)
            prepared.append(host)
            self.prepared.append(port_id)
            return {"host": host, "status": "INACTIVE"}

    def activate_port_binding(self, port_id, host):
        with self.lock:
            self.calls.append("activate binding")
            if port_id not in self.ports:
                raise PeerNotFound("Port could not be found.", status=404)
            if self.ports[port_id]["binding:host_id"] == host:
                return
            if host not in self.bindings.get(port_id, []):
                raise PeerNotFound("Binding could not be found.", status=404)
            self.bindings[port_id] = [self.ports[port_id]["binding:host_id"]]
            self.ports[port_id]["binding:host_id"] = host

    def delete_port_binding(self, port_id, host):
        with self.lock:
            self.calls.append("delete binding")
            prepared = self.bindings.get(port_id, [])
            if host in prepared:
                prepared.remove(host)

    def delete_port(self, port_id):
        with self.lock:
            self.calls.append("delete port")
            self.ports.pop(port_id, None)


class FakeIdentity:
    def __init__(self):
        self.projects = {PROJECT, ADMIN.project_id}

    def show_project(self, project_id):
        if project_id not in self.projects:
            raise PeerNotFound("Could not find project.", status=404)
        return {"id": project_id}


class World:
    """`world("POST", path, body, as_=..., v="2.96", ok=202)` is a request; `host()` adds a host; `settle()` runs what there is to run."""

    def __init__(self, *, hosts=1, db_url=None, **options):
        self.images, self.networks, self.identity = FakeImages(), FakeNetworks(), FakeIdentity()
        self.placement = make_client(PLACEMENT)
        binding = LocalBinding(lambda: self.placement.app, PLACEMENT.prefix, "http://localhost:5000")
        clients = Clients({"placement": binding})
        clients.image = lambda context: self.images
        clients.network = lambda context: self.networks
        clients.identity = lambda context: self.identity
        clients.placement = lambda context: PlacementClient(binding, context)
        self.bus = LocalBus("test")
        options.setdefault("driver", "fake")
        self.client = make_client(ROOM, clients=clients, bus=self.bus, db_url=db_url, options=options)
        self.service = self.client.service
        self.hosts, self.calls = {}, {}
        self.auto_plug = True
        for number in range(1, hosts + 1):
            self.host(f"host{number}")

    def host(self, name, **sizes):
        """A host with the fake driver that serves its bus methods and has reported."""
        home = self.service.home / name
        what = {"vcpus": 1000, "memory_mb": 800_000, "local_gb": 600_000, **sizes}
        driver = FakeDriver(home, FakeHost(hostname=name, address="127.0.0.1", **what), {}, {})
        driver.start(lambda server_id: None)
        calls = Calls(driver, EpochBook(home / "epochs.sqlite"), self.images, self._wake)
        calls.moves.carrier = HttpsCarrier(driver, "127.0.0.1", 0, home)
        calls.ready.set()
        self.calls[name] = calls
        self.bus.serve(f"agent.{name}", calls.methods())
        self.hosts[name] = driver
        self.report(name)
        providers(self.service)
        return driver

    def report(self, name):
        driver = self.hosts[name]
        told = Report(host=name, version=0, states=driver.states(), resources=driver.resources(), seconds=10.0)
        self.client.call("compute.report", told.to_dict())

    def _wake(self, server_id):
        self.client.call("compute.wake", {"id": server_id})

    def __call__(self, method, path, body=None, *, as_=MEMBER, v="2.1", ok=None, headers=None):
        sent = {"OpenStack-API-Version": f"compute {v}", **(headers or {})}
        reply = self.client.request(method, f"/v2.1{path}", json=body, as_=as_, headers=sent)
        if ok is not None:
            assert reply.status == ok, (reply.status, reply.text)
        return reply

    def plug(self):
        """What the network service tells once its hosts have plugged the ports."""
        events = []
        for port in self.networks.ports.values():
            if port["device_id"] and port["binding:host_id"] and port["status"] == "DOWN":
                port["status"] = "ACTIVE"
                events.append({"server_uuid": port["device_id"], "name": "network-vif-plugged", "tag": port["id"], "status": "completed"})
        while self.networks.prepared:
            port = self.networks.ports.get(self.networks.prepared.pop(), {})
            if port.get("device_id"):
                events.append({"server_uuid": port["device_id"], "name": "network-vif-plugged", "tag": port["id"], "status": "completed"})
        if events:
            self("POST", "/os-server-external-events", {"events": events}, as_=SERVICE)
        return len(events)

    def settle(self, rounds=50):
        """Run flows, and plug ports, until nothing moves; jobs of the host are waited for."""
        idle = 0
        for _ in range(rounds):
            ran = self.client.run_flows()
            plugged = self.plug() if self.auto_plug else 0
            if ran or plugged:
                idle = 0
                continue
            idle += 1
            if idle > 1 or not self._flows_wait():
                return
            threading.Event().wait(0.05)

    def pause(self, condition=lambda: True, seconds=0.05):
        """Give threads of hosts a moment, or as long as a condition needs."""
        for _ in range(400):
            threading.Event().wait(seconds)
            if condition():
                return
        raise AssertionError("nothing happens")

    def later(self):
        """Let flows that wait go on at once."""
        from pileus.kernel.flows.store import FLOWS

        with self.service.db.write() as conn:
            conn.execute(FLOWS.update().where(FLOWS.c.state == "ready").values(wake_at=clock.utcnow()))

    def _flows_wait(self):
        from pileus.kernel.flows.store import FLOWS

        with self.service.db.read() as conn:
            return bool(conn.execute(FLOWS.select().where(FLOWS.c.state == "ready")).first())

    def flavor(self, name="small", **values):
        body = {"flavor": {"id": name, "name": name, "ram": 512, "vcpus": 1, "disk": 1, **values}}
        return self("POST", "/flavors", body, as_=ADMIN, ok=200).json["flavor"]["id"]

    def boot(self, name="vm", *, as_=MEMBER, v="2.96", settle=True, networks="auto", ok=202, flavor="small", extra=None, **values):
        body = {"server": {"name": name, "flavorRef": flavor, "imageRef": IMAGE, **values}, **(extra or {})}
        if networks is not None:
            body["server"]["networks"] = networks
        made = self("POST", "/servers", body, as_=as_, v=v, ok=ok).json
        if settle:
            self.settle()
        return made["server"]["id"] if "server" in made else made

    def server(self, server_id, *, as_=ADMIN, v="2.96"):
        return self("GET", f"/servers/{server_id}", as_=as_, v=v, ok=200).json["server"]

    def act(self, server_id, action, body=None, *, as_=MEMBER, v="2.96", ok=202, settle=True):
        reply = self("POST", f"/servers/{server_id}/action", {action: body}, as_=as_, v=v, ok=ok)
        if settle:
            self.settle()
        return reply

    def allocations(self, server_id):
        reply = self.placement.get(f"/allocations/{server_id}", as_=SERVICE, headers={"OpenStack-API-Version": "placement 1.39"})
        return reply.json["allocations"]

    def close(self):
        for calls in self.calls.values():
            calls.jobs.drop_all()
            calls.moves.carrier.stop()
        self.client.close()
        self.placement.close()


__all__ = ["IMAGE", "NETWORK", "PeerConflict", "World", "new"]
