"""[identity]: upstream's defaults where it has the option."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pileus.kernel.config import Doc


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    token_expiration: Annotated[int, Doc("Seconds for which a token is valid.")] = 3600
    allow_expired_window: Annotated[
        int, Doc("Seconds after its end in which a service may still validate a token with allow_expired=1.")
    ] = 172800
    allow_rescope_scoped_token: Annotated[bool, Doc("Whether a scoped token may be exchanged for another scope.")] = (
        True
    )
    max_active_keys: Annotated[int, Doc("Fernet keys kept by a rotation: staged, primary and secondaries.")] = 3
    default_domain_id: Annotated[str, Doc("Domain of new users, groups and projects when nothing names one.")] = (
        "default"
    )
    list_limit: Annotated[int, Doc("Most entries of one list; 0 is no limit. A list cut short says truncated.")] = 0
    max_project_tree_depth: Annotated[int, Doc("Levels of projects below a domain.")] = 5
    max_password_length: Annotated[int, Doc("Longest password in characters.")] = 4096
    password_hash_memory: Annotated[int, Doc("KiB of memory of one argon2id hash.")] = 19456
    password_hash_time: Annotated[int, Doc("Passes of one argon2id hash.")] = 2
    concurrent_hashes: Annotated[
        int, Doc("Password hashes computed at once in one process; 0 is the number of cores.")
    ] = 0
    validated_tokens: Annotated[int, Doc("Validated tokens remembered by each process, about 3 KiB each.")] = 1000
    prohibited_implied_roles: Annotated[list[str], Doc("Names of roles that no other role may imply.")] = msgspec.field(
        default_factory=lambda: ["admin"]
    )
    immutable_default_roles: Annotated[
        bool, Doc("Whether the roles of the initial content cannot be changed or deleted.")
    ] = True
    return_all_endpoints_if_no_filter: Annotated[
        bool, Doc("Whether the catalog of a project that is given no endpoints shows all of them, or none.")
    ] = True
    credential_auth_ttl: Annotated[int, Doc("Minutes for which a request signed with an EC2 key is accepted.")] = 15
    application_credential_limit: Annotated[int, Doc("Application credentials of one user; -1 is no limit.")] = -1
    node_certificate_days: Annotated[
        int, Doc("Days for which the certificate of a node is good."), msgspec.Meta(ge=1, le=3650)
    ] = 365
