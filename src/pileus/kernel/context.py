"""Who is asking: the verified identity behind one request or one piece of background work."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

from pileus.kernel import ids
from pileus.kernel.access_rules import AccessRule


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A verified identity. Only `kernel.web.auth` (from a token) and `service_context` make one."""

    request_id: str = ""
    global_request_id: str | None = None
    user_id: str | None = None
    user_name: str | None = None
    user_domain_id: str | None = None
    user_domain_name: str | None = None
    project_id: str | None = None
    project_name: str | None = None
    project_domain_id: str | None = None
    project_domain_name: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None
    system_scope: str | None = None
    roles: tuple[str, ...] = ()
    service_roles: tuple[str, ...] = ()
    token: str | None = dataclasses.field(default=None, repr=False)
    expires_at: dt.datetime | None = None
    access_rules: tuple[AccessRule, ...] | None = None  # all that the token may be used for; None: anything
    thumbprint: str | None = None  # of the certificate that must be shown with the token
    acts_for: str | None = None  # the service whose own work this is, None for a person's request

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles

    @property
    def is_service(self) -> bool:
        return "service" in self.roles or "service" in self.service_roles

    @property
    def is_anonymous(self) -> bool:
        return self.user_id is None

    def with_request(self, request_id: str, global_request_id: str | None = None) -> Context:
        """The same identity in another request."""
        made = object.__new__(Context)  # dataclasses.replace takes five times as long, and this is done for every request
        for name in _FIELDS:
            object.__setattr__(made, name, getattr(self, name))
        object.__setattr__(made, "request_id", request_id)
        object.__setattr__(made, "global_request_id", global_request_id)
        return made

    @staticmethod
    def anonymous(request_id: str = "") -> Context:
        return Context(request_id=request_id)


_FIELDS = tuple(field.name for field in dataclasses.fields(Context))


def service_context(service: str, request_id: str = "", global_request_id: str | None = None) -> Context:
    """The identity under which `service` does its own work: role `service` on project `service`.

    In process it is handed over as it is. Over HTTP the client sends a token of that service's user in its place.
    """
    return Context(
        request_id=request_id or ids.request_id(),
        global_request_id=global_request_id,
        user_id=f"service-{service}",
        user_name=service,
        user_domain_id="default",
        user_domain_name="Default",
        project_id="service",
        project_name="service",
        project_domain_id="default",
        project_domain_name="Default",
        roles=("service",),
        service_roles=("service",),
        acts_for=service,
    )


def context_of_token(body: Mapping[str, Any], token: str, request_id: str = "") -> Context:
    """The context of a validated token body (API reference: GET /v3/auth/tokens, value of `token`)."""
    user = body["user"]
    project = body.get("project") or {}
    domain = body.get("domain") or {}
    expires = body.get("expires_at")
    rules = (body.get("application_credential") or {}).get("access_rules")
    return Context(
        request_id=request_id,
        user_id=user["id"],
        user_name=user.get("name"),
        user_domain_id=user.get("domain", {}).get("id"),
        user_domain_name=user.get("domain", {}).get("name"),
        project_id=project.get("id"),
        project_name=project.get("name"),
        project_domain_id=project.get("domain", {}).get("id"),
        project_domain_name=project.get("domain", {}).get("name"),
        domain_id=domain.get("id"),
        domain_name=domain.get("name"),
        system_scope="all" if (body.get("system") or {}).get("all") else None,
        roles=tuple(role["name"] for role in body.get("roles", ())),
        token=token,
        expires_at=dt.datetime.fromisoformat(expires).replace(tzinfo=None) if expires else None,
        thumbprint=(body.get("oauth2_credential") or {}).get("x5t#S256"),
        access_rules=None
        if rules is None
        else tuple(AccessRule(rule["service"], rule["method"], rule["path"]) for rule in rules),
    )
