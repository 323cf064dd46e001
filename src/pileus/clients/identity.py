"""Identity as the other services and the first start of a cloud call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pileus.clients.base import Client

_KNOWS_RULES = {"OpenStack-Identity-Access-Rules": "1.0"}
"""Tells identity that who asks obeys the access rules of application credentials (kernel.web.app does)."""


class IdentityClient(Client):
    """The v3 API. Bodies and answers are those of the API reference without their outer name."""

    # Tokens ------------------------------------------------------------------------------------------------------

    def validate(self, token: str, *, allow_expired: bool = False) -> dict[str, Any]:
        """The body of a valid token (value of `token`), its catalog left out.

        Raises PeerNotFound for a token that is not or no longer valid.
        """
        query = {"nocatalog": "1", **({"allow_expired": "1"} if allow_expired else {})}
        body: dict[str, Any] = self.get("/v3/auth/tokens", query, headers={"X-Subject-Token": token, **_KNOWS_RULES})["token"]
        return body

    def revision(self) -> int:
        """Identity's revision: a validated token may be remembered as long as it stays the same."""
        return int(self.get("/v3/auth/revision")["revision"])

    # Nodes -------------------------------------------------------------------------------------------------------

    def list_nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/v3/pileus/nodes")["nodes"]
        return found

    # Users, groups, projects, domains ----------------------------------------------------------------------------

    def list_users(self, **filters: str) -> list[dict[str, Any]]:
        return self._list("users", filters)

    def create_user(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._create("user", body)

    def show_user(self, user_id: str) -> dict[str, Any]:
        return self._show("user", user_id)

    def update_user(self, user_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._update("user", user_id, body)

    def delete_user(self, user_id: str) -> None:
        self.delete(f"/v3/users/{user_id}")

    def list_projects(self, **filters: str) -> list[dict[str, Any]]:
        return self._list("projects", filters)

    def create_project(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._create("project", body)

    def show_project(self, project_id: str) -> dict[str, Any]:
        return self._show("project", project_id)

    def update_project(self, project_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._update("project", project_id, body)

    def delete_project(self, project_id: str) -> None:
        self.delete(f"/v3/projects/{project_id}")

    def list_domains(self, **filters: str) -> list[dict[str, Any]]:
        return self._list("domains", filters)

    # Roles and grants --------------------------------------------------------------------------------------------

    def list_roles(self, **filters: str) -> list[dict[str, Any]]:
        return self._list("roles", filters)

    def create_role(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._create("role", body)

    def grant_on_project(self, project_id: str, user_id: str, role_id: str) -> None:
        """Give a user a role on a project; given twice is given once."""
        self.put(f"/v3/projects/{project_id}/users/{user_id}/roles/{role_id}")

    def revoke_on_project(self, project_id: str, user_id: str, role_id: str) -> None:
        self.delete(f"/v3/projects/{project_id}/users/{user_id}/roles/{role_id}")

    def list_role_assignments(self, **filters: str) -> list[dict[str, Any]]:
        return self._list("role_assignments", filters)

    # Catalog -----------------------------------------------------------------------------------------------------

    def list_regions(self) -> list[dict[str, Any]]:
        return self._list("regions", {})

    def create_region(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._create("region", body)

    def list_services(self, **filters: str) -> list[dict[str, Any]]:
        return self._list("services", filters)

    def create_service(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._create("service", body)

    def list_endpoints(self, **filters: str) -> list[dict[str, Any]]:
        return self._list("endpoints", filters)

    def create_endpoint(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._create("endpoint", body)

    def update_endpoint(self, endpoint_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._update("endpoint", endpoint_id, body)

    # -------------------------------------------------------------------------------------------------------------

    def _list(self, collection: str, filters: Mapping[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/v3/{collection}", dict(filters))[collection]
        return found

    def _create(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = self.post(f"/v3/{name}s", {name: dict(body)})[name]
        return made

    def _show(self, name: str, identifier: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/v3/{name}s/{identifier}")[name]
        return found

    def _update(self, name: str, identifier: str, body: Mapping[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = self.patch(f"/v3/{name}s/{identifier}", {name: dict(body)})[name]
        return changed
