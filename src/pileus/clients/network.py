"""The network service as the other services and the first start of a cloud call it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pileus.clients.base import Client, PeerConflict, PeerNotFound

Body = dict[str, Any]


class NetworkClient(Client):
    """The v2.0 API. Bodies and answers are those of the API reference without their outer name."""

    # Networks and subnets ----------------------------------------------------------------------------------------

    def list_networks(self, **filters: Any) -> list[Body]:
        return self._list("networks", filters)

    def show_network(self, network_id: str) -> Body:
        return self._show("networks", "network", network_id)

    def create_network(self, body: Mapping[str, Any]) -> Body:
        return self._create("networks", "network", body)

    def update_network(self, network_id: str, body: Mapping[str, Any]) -> Body:
        return self._update("networks", "network", network_id, body)

    def delete_network(self, network_id: str) -> None:
        self.delete(f"/v2.0/networks/{network_id}")

    def list_subnets(self, **filters: Any) -> list[Body]:
        return self._list("subnets", filters)

    def show_subnet(self, subnet_id: str) -> Body:
        return self._show("subnets", "subnet", subnet_id)

    def create_subnet(self, body: Mapping[str, Any]) -> Body:
        return self._create("subnets", "subnet", body)

    def delete_subnet(self, subnet_id: str) -> None:
        self.delete(f"/v2.0/subnets/{subnet_id}")

    # Ports -------------------------------------------------------------------------------------------------------

    def list_ports(self, **filters: Any) -> list[Body]:
        return self._list("ports", filters)

    def show_port(self, port_id: str) -> Body:
        return self._show("ports", "port", port_id)

    def create_port(self, body: Mapping[str, Any]) -> Body:
        return self._create("ports", "port", body)

    def create_ports(self, bodies: list[Mapping[str, Any]]) -> list[Body]:
        """Several at once: all or none."""
        made: list[Body] = self.post("/v2.0/ports", {"ports": bodies})["ports"]
        return made

    def update_port(self, port_id: str, body: Mapping[str, Any], revision: int | None = None) -> Body:
        """With a `revision`, refused with 412 when somebody has changed the port since."""
        return self._update("ports", "port", port_id, body, revision)

    def bind_port(self, port_id: str, host: str, **others: Any) -> Body:
        """Bind to a host; with `host` "" take it off its host. `others` are attributes to change along."""
        return self.update_port(port_id, {"binding:host_id": host, **others})

    def list_port_bindings(self, port_id: str, **filters: Any) -> list[Body]:
        found: list[Body] = self.get(f"/v2.0/ports/{port_id}/bindings", filters or None)["bindings"]
        return found

    def create_port_binding(self, port_id: str, host: str, **others: Any) -> Body:
        """Let one more host prepare for the port (`vnic_type`, `profile`). Raises PeerConflict when it has one already, PeerUnavailable
        when the host cannot take it.
        """
        made: Body = self.post(f"/v2.0/ports/{port_id}/bindings", {"binding": {"host": host, **others}})["binding"]
        return made

    def activate_port_binding(self, port_id: str, host: str) -> None:
        """Move the port to a host that is prepared for it; done too when it is there. Raises PeerNotFound without such a binding."""
        try:
            self.put(f"/v2.0/ports/{port_id}/bindings/{host}/activate")
        except PeerConflict:
            return

    def delete_port_binding(self, port_id: str, host: str) -> None:
        """Take the port off a host; done too when it is not there, or there is no such port."""
        try:
            self.delete(f"/v2.0/ports/{port_id}/bindings/{host}")
        except PeerNotFound:
            return

    def delete_port(self, port_id: str) -> None:
        """Done too when there is no such port."""
        try:
            self.delete(f"/v2.0/ports/{port_id}")
        except PeerNotFound:
            return

    # Routers and floating IPs ------------------------------------------------------------------------------------

    def list_routers(self, **filters: Any) -> list[Body]:
        return self._list("routers", filters)

    def create_router(self, body: Mapping[str, Any]) -> Body:
        return self._create("routers", "router", body)

    def update_router(self, router_id: str, body: Mapping[str, Any]) -> Body:
        return self._update("routers", "router", router_id, body)

    def delete_router(self, router_id: str) -> None:
        self.delete(f"/v2.0/routers/{router_id}")

    def add_router_interface(self, router_id: str, **where: str) -> Body:
        """`subnet_id` or `port_id`."""
        made: Body = self.put(f"/v2.0/routers/{router_id}/add_router_interface", where)
        return made

    def remove_router_interface(self, router_id: str, **where: str) -> Body:
        gone: Body = self.put(f"/v2.0/routers/{router_id}/remove_router_interface", where)
        return gone

    def list_floatingips(self, **filters: Any) -> list[Body]:
        return self._list("floatingips", filters)

    def create_floatingip(self, body: Mapping[str, Any]) -> Body:
        return self._create("floatingips", "floatingip", body)

    def update_floatingip(self, floatingip_id: str, body: Mapping[str, Any]) -> Body:
        return self._update("floatingips", "floatingip", floatingip_id, body)

    def delete_floatingip(self, floatingip_id: str) -> None:
        self.delete(f"/v2.0/floatingips/{floatingip_id}")

    # Security groups ---------------------------------------------------------------------------------------------

    def list_security_groups(self, **filters: Any) -> list[Body]:
        return self._list("security-groups", filters)

    def show_security_group(self, group_id: str) -> Body:
        return self._show("security-groups", "security_group", group_id)

    def create_security_group(self, body: Mapping[str, Any]) -> Body:
        return self._create("security-groups", "security_group", body)

    def delete_security_group(self, group_id: str) -> None:
        self.delete(f"/v2.0/security-groups/{group_id}")

    def create_security_group_rule(self, body: Mapping[str, Any]) -> Body:
        return self._create("security-group-rules", "security_group_rule", body)

    def delete_security_group_rule(self, rule_id: str) -> None:
        self.delete(f"/v2.0/security-group-rules/{rule_id}")

    # What there is -----------------------------------------------------------------------------------------------

    def list_agents(self, **filters: Any) -> list[Body]:
        return self._list("agents", filters)

    def list_extensions(self) -> list[Body]:
        return self._list("extensions", {})

    def show_quota_details(self, project_id: str) -> Body:
        found: Body = self.get(f"/v2.0/quotas/{project_id}/details.json")["quota"]
        return found

    # ---------------------------------------------------------------------------------------------------------------

    def _list(self, collection: str, filters: Mapping[str, Any]) -> list[Body]:
        query = dict(_filters(filters))
        found: list[Body] = self.get(f"/v2.0/{collection}", query or None)[collection.replace("-", "_")]
        return found

    def _show(self, collection: str, name: str, id: str) -> Body:
        found: Body = self.get(f"/v2.0/{collection}/{id}")[name]
        return found

    def _create(self, collection: str, name: str, body: Mapping[str, Any]) -> Body:
        made: Body = self.post(f"/v2.0/{collection}", {name: dict(body)})[name]
        return made

    def _update(self, collection: str, name: str, id: str, body: Mapping[str, Any], revision: int | None = None) -> Body:
        headers = {} if revision is None else {"If-Match": f"revision_number={revision}"}
        changed: Body = self.put(f"/v2.0/{collection}/{id}", {name: dict(body)}, headers=headers)[name]
        return changed


def _filters(filters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keyword filters as query parameters; `router_external` stands for `router:external`, a list for several values."""
    for name, value in filters.items():
        key = {"router_external": "router:external", "binding_host_id": "binding:host_id"}.get(name, name)
        yield key, str(value) if isinstance(value, bool) else value
