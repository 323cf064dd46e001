"""An identity with an identity provider, for tests of those who log in by it."""

from __future__ import annotations

from typing import Any

from tests.api.identity.world import Identity

AUTH = "/OS-FEDERATION/identity_providers/{}/protocols/{}/auth"
RULES = [
    {
        "local": [{"user": {"name": "{0}", "email": "{1}"}, "groups": "{2}", "domain": {"id": "default"}}],
        "remote": [{"type": "OIDC-name"}, {"type": "OIDC-email"}, {"type": "OIDC-groups"}],
    }
]
ALICE = {"HTTP_OIDC_NAME": "alice", "HTTP_OIDC_EMAIL": "alice@example.org", "HTTP_OIDC_GROUPS": "staff"}


def federate(identity: Identity, name: str = "idp", protocol: str = "openid", rules: Any = RULES, version: str = "1.0", **body: Any) -> str:
    """Register an enabled identity provider with a protocol and a mapping of its own; the id of its domain."""
    sent = {"enabled": True, **body}
    domain = identity("PUT", f"/OS-FEDERATION/identity_providers/{name}", {"identity_provider": sent}, ok=201).json
    mapping = {"rules": rules, "schema_version": version}
    identity("PUT", f"/OS-FEDERATION/mappings/{name}", {"mapping": mapping}, ok=201)
    identity("PUT", f"/OS-FEDERATION/identity_providers/{name}/protocols/{protocol}", {"protocol": {"mapping_id": name}}, ok=201)
    return domain["identity_provider"]["domain_id"]


def login(identity: Identity, assertion: Any = ALICE, name: str = "idp", protocol: str = "openid", method: str = "GET") -> Any:
    return identity(method, AUTH.format(name, protocol), token=None, assertion=assertion)


def token(identity: Identity, assertion: Any = ALICE, name: str = "idp", protocol: str = "openid") -> str:
    answer = login(identity, assertion, name, protocol)
    assert answer.status == 201, answer.text
    return answer.headers["x-subject-token"]


def staffed(identity: Identity, role: str = "member") -> tuple[dict[str, Any], dict[str, Any]]:
    """The group staff of the default domain, and a project on which it has a role."""
    group, project = identity.make("group", name="staff"), identity.make("project", name="work")
    identity.grant(role, group=group["id"], project=project["id"])
    return group, project
