"""The declaration of the identity service."""

from __future__ import annotations

from pileus.kernel.room import Room

ROOM = Room(
    name="identity",
    service_type="identity",
    service_name="keystone",
    prefix="/identity",
    base="/v3",
    catalog="/identity/v3",
    port=5000,
    options="pileus.identity.options:Options",
    tables="pileus.identity.store.tables:METADATA",
    policy="pileus.identity.policy:RULES",
    scopes="pileus.identity.policy:SCOPES",
    fault="identity",
    api=(
        "pileus.identity.api.versions",
        "pileus.identity.api.auth",
        "pileus.identity.api.revocations",
        "pileus.identity.api.users",
        "pileus.identity.api.groups",
        "pileus.identity.api.projects",
        "pileus.identity.api.tags",
        "pileus.identity.api.domains",
        "pileus.identity.api.roles",
        "pileus.identity.api.grants",
        "pileus.identity.api.assignments",
        "pileus.identity.api.regions",
        "pileus.identity.api.services",
        "pileus.identity.api.endpoints",
        "pileus.identity.api.endpoint_filter",
        "pileus.identity.api.credentials",
        "pileus.identity.api.application_credentials",
        "pileus.identity.api.access_rules",
        "pileus.identity.api.trusts",
        "pileus.identity.api.oauth2",
        "pileus.identity.api.ec2",
        "pileus.identity.api.signed",
        "pileus.identity.api.policies",
        "pileus.identity.api.endpoint_policy",
        "pileus.identity.api.limits",
        "pileus.identity.api.nodes",
        "pileus.identity.api.oauth1",
        "pileus.identity.api.simple_cert",
    ),
    loops="pileus.identity.loops:LOOPS",
    calls="pileus.identity.logic.calls:CALLS",
    bootstrap="pileus.identity.logic.bootstrap:bootstrap",
    logins=frozenset(
        {("POST", "/v3/auth/tokens"), ("POST", "/v3/OS-OAUTH2/token"), ("POST", "/v3/users/*/password")}
    ),
    revision="pileus.identity.logic.state:revision_of",
    rotate_keys="pileus.identity.logic.keys:rotate",
    rotate_credential_keys="pileus.identity.logic.sealing:rotate",
)
