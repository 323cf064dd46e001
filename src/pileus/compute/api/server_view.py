"""What the API shows of a server, by microversion and rights.

A `View` is made once per request: what depends on the request alone is worked out there, so that a list costs little per server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.compute.logic import hosts, states
from pileus.compute.store import hosts as host_store
from pileus.compute.store import servers as store
from pileus.compute.store.tables import SERVERS, SERVICES
from pileus.kernel import clock
from pileus.kernel.web import Call

Row = Mapping[str, Any]
Json = dict[str, Any]

_WITH_PROGRESS = frozenset(("ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"))
_WITH_FAULT = frozenset(("ERROR", "DELETED"))


def host_id(project_id: str, host: str | None) -> str:
    """The name of a host that users may know: the same for all servers of a project there, and for nobody else."""
    return hashlib.sha224(f"{project_id}{host}".encode()).hexdigest() if host else ""


def addresses_of(info: Sequence[Row], *, extended: bool = True) -> Json:
    """Network name -> its addresses, as `addresses` shows them; `extended` with their types and hardware addresses."""
    found: dict[str, list[Json]] = {}
    for vif in info:
        mac = vif["mac"]
        listed = found.setdefault(vif["label"], [])
        for ip in vif["ips"]:
            view = {"version": ip["version"], "addr": ip["address"]}
            if extended:
                view["OS-EXT-IPS:type"] = ip["type"]
                view["OS-EXT-IPS-MAC:mac_addr"] = mac
            listed.append(view)
    return found


class View:
    """Renders servers for one request. `complete` is false for answers that showed less before 2.75."""

    def __init__(self, call: Call, *, complete: bool = True) -> None:
        self.call = call
        self.version = call.version
        self.complete = complete or call.at_least(2, 75)
        self._self = call.link("/servers/")
        self._bookmark = call.root_link("/servers/")
        self._images = call.root_link("/images/")
        self._flavors = call.root_link("/flavors/")
        self._host_ids: dict[tuple[str, str | None], str] = {}

    def prepare(self) -> None:
        """Ask policy what the caller may see; only full views need it."""
        call = self.call
        self.admin = call.context.is_admin
        self.attributes = self.complete and call.allows("os_compute_api:os-extended-server-attributes")
        self.host_status = (
            call.at_least(2, 16) and self.complete and call.allows("os_compute_api:servers:show:host_status")
        )
        self.specs = call.at_least(2, 47) and call.allows("os_compute_api:servers:show:flavor-extra-specs")

    def columns(self) -> list[sa.Column[Any]]:
        """What a list has to read."""
        wanted = list(store.LIST_COLUMNS)
        if self.attributes and self.version >= (2, 3):
            wanted += [SERVERS.c.user_data, SERVERS.c.image]
        return wanted

    def links(self, server_id: str) -> list[Json]:
        return [
            {"rel": "self", "href": self._self + server_id},
            {"rel": "bookmark", "href": self._bookmark + server_id},
        ]

    def brief(self, server_id: str, name: str) -> Json:
        return {"id": server_id, "name": name, "links": self.links(server_id)}

    def many(self, conn: sa.Connection, rows: Sequence[Row]) -> list[Json]:
        """Full views of a page; at most three more queries."""
        ids = [row["id"] for row in rows]
        metadata = store.metadata_of_many(conn, ids)
        tags = store.tags_of_many(conn, ids) if self.version >= (2, 26) else {}
        up = self._host_states(conn) if self.host_status else {}
        return [self.full(row, metadata.get(row["id"], {}), tags.get(row["id"], []), up) for row in rows]

    def one(self, conn: sa.Connection, row: Row) -> Json:
        """The full view of one server, with its group from 2.71 on."""
        view = self.many(conn, [row])[0]
        if self.version >= (2, 71):
            group = store.group_of(conn, row["id"])
            view["server_groups"] = [group["uuid"]] if group else []
        return view

    def _host_states(self, conn: sa.Connection) -> dict[str, str]:
        """Host -> UP, MAINTENANCE, DOWN or UNKNOWN."""
        found = {}
        options = self.call.service.options
        for service in host_store.services(conn, SERVICES.c.binary == host_store.COMPUTE):
            if service["disabled"]:
                state = "MAINTENANCE"
            elif service["forced_down"]:
                state = "DOWN"
            else:
                state = "UP" if hosts.is_up(options, service) else "UNKNOWN"
            found[service["host"]] = state
        return found

    def full(self, row: Row, metadata: Json, tags: list[str], up: Mapping[str, str]) -> Json:
        server_id = row["id"]
        status = states.status(row["vm_state"], row["task_state"])
        created = clock.iso(row["created_at"])
        view: Json = {
            "id": server_id,
            "name": row["name"],
            "status": status,
            "tenant_id": row["project_id"],
            "user_id": row["user_id"],
            "metadata": metadata,
            "hostId": self._host_id(row["project_id"], row["host"]),
            "image": self._image(row),
            "flavor": self._flavor(row["flavor"]),
            "created": created,
            "updated": clock.iso(row["updated_at"]) if row["updated_at"] else created,
            "addresses": addresses_of(row["network_info"] or (), extended=self.complete),
            "accessIPv4": row["access_ip_v4"] or "",
            "accessIPv6": row["access_ip_v6"] or "",
            "links": self.links(server_id),
            "OS-DCF:diskConfig": row["disk_config"],
        }
        if status in _WITH_PROGRESS:
            view["progress"] = row["progress"]
        if status in _WITH_FAULT and row["fault"]:
            view["fault"] = self._fault(row["fault"])
        if self.complete:
            self._add_states(view, row)
        self._add_newer(view, row, tags)
        if self.attributes:
            self._add_attributes(view, row)
        elif self.version >= (2, 90) and self.complete:
            view["OS-EXT-SRV-ATTR:hostname"] = row["hostname"]
        if self.host_status:
            view["host_status"] = up.get(row["host"], "UNKNOWN") if row["host"] else ""
        return view

    def _add_states(self, view: Json, row: Row) -> None:
        view["OS-EXT-AZ:availability_zone"] = row["availability_zone"] or row["pinned_zone"] or ""
        view["config_drive"] = "True" if row["config_drive"] else ""
        view["key_name"] = row["key_name"]
        view["OS-SRV-USG:launched_at"] = clock.iso_micro(row["launched_at"])
        view["OS-SRV-USG:terminated_at"] = clock.iso_micro(row["terminated_at"])
        view["OS-EXT-STS:task_state"] = row["task_state"]
        view["OS-EXT-STS:vm_state"] = row["vm_state"]
        view["OS-EXT-STS:power_state"] = row["power_state"]
        view["os-extended-volumes:volumes_attached"] = []
        names = {name: None for vif in row["network_info"] or () for name in vif["security_groups"]}
        if names:
            view["security_groups"] = [{"name": name} for name in names]

    def _add_newer(self, view: Json, row: Row, tags: list[str]) -> None:
        version = self.version
        if version >= (2, 9):
            view["locked"] = row["locked"]
        if version >= (2, 19):
            view["description"] = row["description"]
        if version >= (2, 26):
            view["tags"] = tags
        if version >= (2, 63):
            view["trusted_image_certificates"] = None
        if version >= (2, 73):
            view["locked_reason"] = row["locked_reason"]
        if version >= (2, 96):
            view["pinned_availability_zone"] = row["pinned_zone"]

    def _add_attributes(self, view: Json, row: Row) -> None:
        view["OS-EXT-SRV-ATTR:host"] = row["host"]
        view["OS-EXT-SRV-ATTR:hypervisor_hostname"] = row["node"]
        view["OS-EXT-SRV-ATTR:instance_name"] = f"instance-{row['id'][:8]}"
        if self.version >= (2, 3):
            properties = (row["image"] or {}).get("properties") or {}
            view["OS-EXT-SRV-ATTR:reservation_id"] = row["reservation_id"]
            view["OS-EXT-SRV-ATTR:launch_index"] = row["launch_index"]
            view["OS-EXT-SRV-ATTR:hostname"] = row["hostname"]
            view["OS-EXT-SRV-ATTR:kernel_id"] = properties.get("kernel_id") or ""
            view["OS-EXT-SRV-ATTR:ramdisk_id"] = properties.get("ramdisk_id") or ""
            view["OS-EXT-SRV-ATTR:root_device_name"] = row["root_device_name"]
            view["OS-EXT-SRV-ATTR:user_data"] = row["user_data"]

    def _host_id(self, project_id: str, host: str | None) -> str:
        key = (project_id, host)
        if key not in self._host_ids:
            self._host_ids[key] = host_id(project_id, host)
        return self._host_ids[key]

    def _image(self, row: Row) -> Any:
        image_ref = row["image_ref"]
        if not image_ref:
            return ""
        return {"id": image_ref, "links": [{"rel": "bookmark", "href": self._images + image_ref}]}

    def _flavor(self, flavor: Row) -> Json:
        if self.version < (2, 47):
            href = self._flavors + flavor["flavorid"]
            return {"id": flavor["flavorid"], "links": [{"rel": "bookmark", "href": href}]}
        view = {
            "vcpus": flavor["vcpus"],
            "ram": flavor["memory_mb"],
            "disk": flavor["root_gb"],
            "ephemeral": flavor["ephemeral_gb"],
            "swap": flavor["swap"],
            "original_name": flavor["name"],
        }
        if self.specs:
            view["extra_specs"] = flavor["extra_specs"]
        return view

    def _fault(self, fault: Row) -> Json:
        view = {"code": fault["code"], "created": fault["created"], "message": fault["message"]}
        if fault.get("details") and (self.admin or fault["code"] != 500):
            view["details"] = fault["details"]
        return view
