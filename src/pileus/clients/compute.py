"""Compute as the other services and the first start of a cloud call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pileus.clients.base import Client, PeerNotFound

Body = dict[str, Any]


class ComputeClient(Client):
    """The v2.1 API at one microversion. Bodies and answers are those of the API reference without their outer name."""

    version_header = {"OpenStack-API-Version": "compute 2.96"}

    # What other services tell ------------------------------------------------------------------------------------

    def external_events(self, events: Sequence[Mapping[str, str]]) -> list[Body]:
        """Report events ({"server_uuid", "name", "tag", "status"}); each comes back with its `code`.

        Events of servers that do not exist (404) or have no host yet (422) are answered, not raised.
        """
        try:
            found = self.post("/v2.1/os-server-external-events", {"events": list(events)})
        except PeerNotFound:
            return [{**event, "code": 404} for event in events]
        return list(found["events"])

    # Servers -----------------------------------------------------------------------------------------------------

    def create_server(self, body: Mapping[str, Any], hints: Mapping[str, Any] | None = None) -> Body:
        """Begin to build a server; `networks` is needed ("auto", "none" or a list)."""
        request: Body = {"server": dict(body)}
        if hints:
            request["os:scheduler_hints"] = dict(hints)
        return dict(self.post("/v2.1/servers", request)["server"])

    def show_server(self, server_id: str) -> Body:
        return dict(self.get(f"/v2.1/servers/{server_id}")["server"])

    def list_servers(self, **filters: Any) -> list[Body]:
        """With details; one page."""
        return list(self.get("/v2.1/servers/detail", filters)["servers"])

    def delete_server(self, server_id: str) -> None:
        """Begin to delete a server; nothing happens when it is gone."""
        try:
            self.delete(f"/v2.1/servers/{server_id}")
        except PeerNotFound:
            return

    def act(self, server_id: str, action: str, body: Any = None) -> Any:
        """Any action of a server, e.g. `act(id, "reboot", {"type": "HARD"})`."""
        return self.post(f"/v2.1/servers/{server_id}/action", {action: body})

    def console_output(self, server_id: str, length: int | None = None) -> str:
        answer = self.act(server_id, "os-getConsoleOutput", {"length": length} if length is not None else {})
        return str(answer["output"])

    # Flavors -----------------------------------------------------------------------------------------------------

    def list_flavors(self, **filters: Any) -> list[Body]:
        return list(self.get("/v2.1/flavors/detail", filters)["flavors"])

    def create_flavor(self, body: Mapping[str, Any]) -> Body:
        return dict(self.post("/v2.1/flavors", {"flavor": dict(body)})["flavor"])

    def set_extra_specs(self, flavor_id: str, specs: Mapping[str, str]) -> None:
        self.post(f"/v2.1/flavors/{flavor_id}/os-extra_specs", {"extra_specs": dict(specs)})

    def delete_flavor(self, flavor_id: str) -> None:
        self.delete(f"/v2.1/flavors/{flavor_id}")

    # Key pairs ---------------------------------------------------------------------------------------------------

    def list_keypairs(self, user_id: str | None = None) -> list[Body]:
        query = {"user_id": user_id} if user_id else {}
        return [dict(item["keypair"]) for item in self.get("/v2.1/os-keypairs", query)["keypairs"]]

    def import_keypair(self, name: str, public_key: str, user_id: str | None = None) -> Body:
        """Store a public key; `user_id` for another user, by administrators."""
        body = {"name": name, "public_key": public_key, "type": "ssh"} | ({"user_id": user_id} if user_id else {})
        return dict(self.post("/v2.1/os-keypairs", {"keypair": body})["keypair"])

    def delete_keypair(self, name: str) -> None:
        self.delete(f"/v2.1/os-keypairs/{name}")

    # Hosts -------------------------------------------------------------------------------------------------------

    def list_hypervisors(self) -> list[Body]:
        return list(self.get("/v2.1/os-hypervisors/detail")["hypervisors"])

    def list_services(self, **filters: str) -> list[Body]:
        return list(self.get("/v2.1/os-services", filters)["services"])
