"""Who may do what: upstream's rule names and secure defaults, and the scopes that each rule takes.

Facts are from keystone's published policy reference. Targets are flat mappings with dotted names, see
`api/common.py`. `token.domain.id` and `token.project.domain.id` of upstream are the caller's `domain_id` and
`project_domain_id` here; they mean the same, and files may use either.
"""

from __future__ import annotations

_ADMIN = "rule:admin_required"
_ADMIN_OR_SYSTEM_READER = "rule:admin_required or (role:reader and system_scope:all)"
_OWNER = "user_id:%(user_id)s"


def _domain_role(role: str, *targets: str) -> str:
    """`role` on the domain of every target."""
    return "(role:" + role + "".join(f" and domain_id:%({target})s" for target in targets) + ")"


def _project_role(role: str) -> str:
    """`role` on the domain of the project. A project that is a domain has none, and neither has most callers."""
    return (
        f"(role:{role} and domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)"
    )


def _admin_or_manager(*targets: str) -> str:
    return f"{_ADMIN} or {_domain_role('manager', *targets)}"


def _reader(*targets: str) -> str:
    return f"{_ADMIN_OR_SYSTEM_READER} or {_domain_role('reader', *targets)}"


def _on_grant_targets(role: str) -> str:
    """Domain-scoped `role` where both the actor and the target belong to the domain."""
    pairs = [
        (actor, target)
        for actor in ("target.user.domain_id", "target.group.domain_id")
        for target in ("target.project.domain_id", "target.domain.id")
    ]
    return " or ".join(_domain_role(role, *pair) for pair in pairs)


_ROLE_OF_DOMAIN = "(domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s)"
_CHANGE_GRANT = (
    f"{_ADMIN} or (({_on_grant_targets('admin')}) and {_ROLE_OF_DOMAIN}) or "
    f"(({_on_grant_targets('manager')}) and rule:domain_managed_target_role)"
)
_SEE_GRANT = f"{_ADMIN_OR_SYSTEM_READER} or (({_on_grant_targets('reader')}) and {_ROLE_OF_DOMAIN})"
_SEE_GRANTS = f"{_ADMIN_OR_SYSTEM_READER} or {_on_grant_targets('reader')}"

_PROJECT_USER = f"{_ADMIN_OR_SYSTEM_READER} or {_project_role('reader')} or project_id:%(target.project.id)s"
_PROJECT_MANAGER = f"{_ADMIN} or {_project_role('manager')}"
_CREDENTIAL_OWNER = "user_id:%(target.credential.user_id)s"

_BASE = {
    "admin_required": "role:admin or is_admin:1",
    "service_role": "role:service",
    "service_or_admin": "rule:admin_required or rule:service_role",
    "owner": _OWNER,
    "admin_or_owner": "rule:admin_required or rule:owner",
    "token_subject": "user_id:%(target.token.user_id)s",
    "admin_or_token_subject": "rule:admin_required or rule:token_subject",
    "service_admin_or_token_subject": "rule:service_or_admin or rule:token_subject",
    "domain_managed_target_role": (
        "'manager':%(target.role.name)s or 'member':%(target.role.name)s or 'reader':%(target.role.name)s"
    ),
}

_TOKENS = {
    "identity:check_token": "rule:admin_required or (role:reader and system_scope:all) or rule:token_subject",
    "identity:validate_token": (
        "rule:admin_required or (role:reader and system_scope:all) or rule:service_role or rule:token_subject"
    ),
    "identity:revoke_token": "rule:admin_required or rule:token_subject",
    "identity:list_revoke_events": "rule:service_or_admin",
    "identity:get_auth_catalog": "",
    "identity:get_auth_projects": "",
    "identity:get_auth_domains": "",
    "identity:get_auth_system": "",
    # Pileus' own: the number that tells caches of validated tokens to look again.
    "identity:get_revision": "rule:service_or_admin or (role:reader and system_scope:all)",
}

_USERS = {
    "identity:get_user": f"{_reader('target.user.domain_id')} or user_id:%(target.user.id)s",
    "identity:list_users": _reader("target.domain_id"),
    "identity:list_projects_for_user": "",
    "identity:list_domains_for_user": "",
    "identity:create_user": _admin_or_manager("target.user.domain_id"),
    "identity:update_user": _admin_or_manager("target.user.domain_id"),
    "identity:delete_user": _admin_or_manager("target.user.domain_id"),
}

_GROUPS = {
    "identity:get_group": _reader("target.group.domain_id"),
    "identity:list_groups": _reader("target.group.domain_id"),
    "identity:list_groups_for_user": f"{_reader('target.user.domain_id')} or {_OWNER}",
    "identity:create_group": _admin_or_manager("target.group.domain_id"),
    "identity:update_group": _admin_or_manager("target.group.domain_id"),
    "identity:delete_group": _admin_or_manager("target.group.domain_id"),
    "identity:list_users_in_group": _reader("target.group.domain_id"),
    "identity:remove_user_from_group": _admin_or_manager("target.group.domain_id", "target.user.domain_id"),
    "identity:check_user_in_group": _reader("target.group.domain_id", "target.user.domain_id"),
    "identity:add_user_to_group": _admin_or_manager("target.group.domain_id", "target.user.domain_id"),
}

_PROJECTS = {
    "identity:get_project": _PROJECT_USER,
    "identity:list_projects": _reader("target.domain_id"),
    "identity:list_user_projects": f"{_reader('target.user.domain_id')} or user_id:%(target.user.id)s",
    "identity:create_project": _PROJECT_MANAGER,
    "identity:update_project": _PROJECT_MANAGER,
    "identity:delete_project": _PROJECT_MANAGER,
    "identity:list_project_tags": _PROJECT_USER,
    "identity:get_project_tag": _PROJECT_USER,
    "identity:update_project_tags": _PROJECT_MANAGER,
    "identity:create_project_tag": _PROJECT_MANAGER,
    "identity:delete_project_tags": _PROJECT_MANAGER,
    "identity:delete_project_tag": _PROJECT_MANAGER,
}

_DOMAINS = {
    "identity:get_domain": (
        f"{_ADMIN_OR_SYSTEM_READER} or domain_id:%(target.domain.id)s or project_domain_id:%(target.domain.id)s"
    ),
    "identity:list_domains": f"{_ADMIN_OR_SYSTEM_READER} or {_domain_role('reader', 'target.domain.id')}",
    "identity:create_domain": _ADMIN,
    "identity:update_domain": _ADMIN,
    "identity:delete_domain": _ADMIN,
}

_ROLES = {
    "identity:get_role": f"{_ADMIN_OR_SYSTEM_READER} or (role:manager and rule:domain_managed_target_role)",
    "identity:list_roles": f"{_ADMIN_OR_SYSTEM_READER} or (role:manager and not domain_id:None)",
    "identity:create_role": _ADMIN,
    "identity:update_role": _ADMIN,
    "identity:delete_role": _ADMIN,
    "identity:get_domain_role": _ADMIN_OR_SYSTEM_READER,
    "identity:list_domain_roles": _ADMIN_OR_SYSTEM_READER,
    "identity:create_domain_role": _ADMIN,
    "identity:update_domain_role": _ADMIN,
    "identity:delete_domain_role": _ADMIN,
    "identity:get_implied_role": _ADMIN_OR_SYSTEM_READER,
    "identity:list_implied_roles": _ADMIN_OR_SYSTEM_READER,
    "identity:create_implied_role": _ADMIN,
    "identity:delete_implied_role": _ADMIN,
    "identity:list_role_inference_rules": _ADMIN_OR_SYSTEM_READER,
    "identity:check_implied_role": _ADMIN_OR_SYSTEM_READER,
}

_GRANTS = {
    "identity:check_grant": _SEE_GRANT,
    "identity:list_grants": _SEE_GRANTS,
    "identity:create_grant": _CHANGE_GRANT,
    "identity:revoke_grant": _CHANGE_GRANT,
    "identity:list_system_grants_for_user": _ADMIN_OR_SYSTEM_READER,
    "identity:check_system_grant_for_user": _ADMIN_OR_SYSTEM_READER,
    "identity:create_system_grant_for_user": _ADMIN,
    "identity:revoke_system_grant_for_user": _ADMIN,
    "identity:list_system_grants_for_group": _ADMIN_OR_SYSTEM_READER,
    "identity:check_system_grant_for_group": _ADMIN_OR_SYSTEM_READER,
    "identity:create_system_grant_for_group": _ADMIN,
    "identity:revoke_system_grant_for_group": _ADMIN,
    "identity:list_role_assignments": _reader("target.domain_id"),
    "identity:list_role_assignments_for_tree": _reader("target.domain_id"),
}

_CATALOG = {
    "identity:get_region": "",
    "identity:list_regions": "",
    "identity:create_region": _ADMIN,
    "identity:update_region": _ADMIN,
    "identity:delete_region": _ADMIN,
    "identity:get_service": _ADMIN_OR_SYSTEM_READER,
    "identity:list_services": _ADMIN_OR_SYSTEM_READER,
    "identity:create_service": _ADMIN,
    "identity:update_service": _ADMIN,
    "identity:delete_service": _ADMIN,
    "identity:get_endpoint": _ADMIN_OR_SYSTEM_READER,
    "identity:list_endpoints": _ADMIN_OR_SYSTEM_READER,
    "identity:create_endpoint": _ADMIN,
    "identity:update_endpoint": _ADMIN,
    "identity:delete_endpoint": _ADMIN,
    "identity:get_policy": _ADMIN_OR_SYSTEM_READER,
    "identity:list_policies": _ADMIN_OR_SYSTEM_READER,
    "identity:create_policy": _ADMIN,
    "identity:update_policy": _ADMIN,
    "identity:delete_policy": _ADMIN,
}

_ENDPOINT_POLICY = {
    **{
        f"identity:{verb}_policy_association_for_{subject}": rule
        for subject in ("endpoint", "service", "region_and_service")
        for verb, rule in (("create", _ADMIN), ("check", _ADMIN_OR_SYSTEM_READER), ("delete", _ADMIN))
    },
    "identity:list_endpoints_for_policy": _ADMIN_OR_SYSTEM_READER,
    "identity:get_policy_for_endpoint": _ADMIN_OR_SYSTEM_READER,
}

_ENDPOINT_FILTER = {
    "identity:create_endpoint_group": _ADMIN,
    "identity:list_endpoint_groups": _ADMIN_OR_SYSTEM_READER,
    "identity:get_endpoint_group": _ADMIN_OR_SYSTEM_READER,
    "identity:update_endpoint_group": _ADMIN,
    "identity:delete_endpoint_group": _ADMIN,
    "identity:list_projects_associated_with_endpoint_group": _ADMIN_OR_SYSTEM_READER,
    "identity:list_endpoints_associated_with_endpoint_group": _ADMIN_OR_SYSTEM_READER,
    "identity:get_endpoint_group_in_project": _ADMIN_OR_SYSTEM_READER,
    "identity:list_endpoint_groups_for_project": _ADMIN_OR_SYSTEM_READER,
    "identity:add_endpoint_group_to_project": _ADMIN,
    "identity:remove_endpoint_group_from_project": _ADMIN,
    "identity:list_projects_for_endpoint": _ADMIN_OR_SYSTEM_READER,
    "identity:add_endpoint_to_project": _ADMIN,
    "identity:check_endpoint_in_project": _ADMIN_OR_SYSTEM_READER,
    "identity:list_endpoints_for_project": _ADMIN_OR_SYSTEM_READER,
    "identity:remove_endpoint_from_project": _ADMIN,
}

_CREDENTIALS = {
    "identity:get_credential": f"{_ADMIN_OR_SYSTEM_READER} or {_CREDENTIAL_OWNER}",
    "identity:list_credentials": f"{_ADMIN_OR_SYSTEM_READER} or {_CREDENTIAL_OWNER}",
    "identity:create_credential": f"{_ADMIN} or {_CREDENTIAL_OWNER}",
    "identity:update_credential": f"{_ADMIN} or {_CREDENTIAL_OWNER}",
    "identity:delete_credential": f"{_ADMIN} or {_CREDENTIAL_OWNER}",
    "identity:ec2_get_credential": f"{_ADMIN_OR_SYSTEM_READER} or {_CREDENTIAL_OWNER}",
    "identity:ec2_list_credentials": f"{_ADMIN_OR_SYSTEM_READER} or rule:owner",
    "identity:ec2_create_credential": f"{_ADMIN} or (role:member and {_CREDENTIAL_OWNER})",
    "identity:ec2_delete_credential": f"{_ADMIN} or (role:member and {_CREDENTIAL_OWNER})",
    "identity:ec2tokens_validate": "rule:service_or_admin",
    "identity:s3tokens_validate": "rule:service_or_admin",
    "identity:get_application_credential": f"{_ADMIN_OR_SYSTEM_READER} or rule:owner",
    "identity:list_application_credentials": f"{_ADMIN_OR_SYSTEM_READER} or rule:owner",
    "identity:create_application_credential": _OWNER,
    "identity:delete_application_credential": "rule:admin_or_owner",
}

_SELF = "user_id:%(target.user.id)s"
_ACCESS_RULES = {
    "identity:get_access_rule": f"(role:reader and system_scope:all) or {_SELF}",
    "identity:list_access_rules": f"(role:reader and system_scope:all) or {_SELF}",
    "identity:delete_access_rule": f"(role:admin and system_scope:all) or {_SELF}",
}

_TRUSTOR, _TRUSTEE = "user_id:%(target.trust.trustor_user_id)s", "user_id:%(target.trust.trustee_user_id)s"
_TRUSTS = {
    "identity:create_trust": _TRUSTOR,
    "identity:list_trusts": _ADMIN_OR_SYSTEM_READER,
    "identity:list_trusts_for_trustor": f"{_ADMIN_OR_SYSTEM_READER} or {_TRUSTOR}",
    "identity:list_trusts_for_trustee": f"{_ADMIN_OR_SYSTEM_READER} or {_TRUSTEE}",
    "identity:list_roles_for_trust": f"{_ADMIN_OR_SYSTEM_READER} or {_TRUSTOR} or {_TRUSTEE}",
    "identity:get_role_for_trust": f"{_ADMIN_OR_SYSTEM_READER} or {_TRUSTOR} or {_TRUSTEE}",
    "identity:get_trust": f"{_ADMIN_OR_SYSTEM_READER} or {_TRUSTOR} or {_TRUSTEE}",
    "identity:delete_trust": f"{_ADMIN} or {_TRUSTOR}",
}

_SERVICE_PROVIDERS = {
    "identity:create_service_provider": _ADMIN,
    "identity:list_service_providers": _ADMIN_OR_SYSTEM_READER,
    "identity:get_service_provider": _ADMIN_OR_SYSTEM_READER,
    "identity:update_service_provider": _ADMIN,
    "identity:delete_service_provider": _ADMIN,
}

_LIMITS = {
    "identity:get_registered_limit": "",
    "identity:list_registered_limits": "",
    "identity:create_registered_limits": _ADMIN,
    "identity:update_registered_limit": _ADMIN,
    "identity:delete_registered_limit": _ADMIN,
    "identity:get_limit_model": "",
    "identity:get_limit": (
        f"{_ADMIN_OR_SYSTEM_READER} or domain_id:%(target.limit.domain.id)s "
        "or domain_id:%(target.limit.project.domain_id)s "
        "or (project_id:%(target.limit.project_id)s and not None:%(target.limit.project_id)s)"
    ),
    "identity:list_limits": "",
    "identity:create_limits": _ADMIN,
    "identity:update_limit": _ADMIN,
    "identity:delete_limit": _ADMIN,
}

# Pileus' own: machines that join the cloud. Services learn whom to listen to, a node renews its own certificate.
_NODES = {
    "identity:create_node_token": _ADMIN,
    "identity:list_nodes": "rule:service_or_admin or (role:reader and system_scope:all)",
    "identity:get_node": _ADMIN_OR_SYSTEM_READER,
    "identity:update_node": _ADMIN,
    "identity:delete_node": _ADMIN,
    "identity:create_node_certificate": f"{_ADMIN} or user_id:%(target.node.user_id)s",
}

_OAUTH1 = {
    "identity:get_consumer": _ADMIN_OR_SYSTEM_READER,
    "identity:list_consumers": _ADMIN_OR_SYSTEM_READER,
    "identity:create_consumer": _ADMIN,
    "identity:update_consumer": _ADMIN,
    "identity:delete_consumer": _ADMIN,
    "identity:authorize_request_token": _ADMIN,
    "identity:get_access_token": _ADMIN,
    "identity:get_access_token_role": _ADMIN,
    "identity:list_access_tokens": _ADMIN,
    "identity:list_access_token_roles": _ADMIN,
    "identity:delete_access_token": _ADMIN,
}

_FEDERATION = {
    "identity:create_identity_provider": _ADMIN,
    "identity:list_identity_providers": _ADMIN_OR_SYSTEM_READER,
    "identity:get_identity_provider": _ADMIN_OR_SYSTEM_READER,
    "identity:update_identity_provider": _ADMIN,
    "identity:delete_identity_provider": _ADMIN,
    "identity:create_protocol": _ADMIN,
    "identity:list_protocols": _ADMIN_OR_SYSTEM_READER,
    "identity:get_protocol": _ADMIN_OR_SYSTEM_READER,
    "identity:update_protocol": _ADMIN,
    "identity:delete_protocol": _ADMIN,
    "identity:create_mapping": _ADMIN,
    "identity:list_mappings": _ADMIN_OR_SYSTEM_READER,
    "identity:get_mapping": _ADMIN_OR_SYSTEM_READER,
    "identity:update_mapping": _ADMIN,
    "identity:delete_mapping": _ADMIN,
}

_DOMAIN_CONFIG = {
    "identity:create_domain_config": _ADMIN,
    "identity:get_domain_config": _ADMIN_OR_SYSTEM_READER,
    "identity:get_security_compliance_domain_config": "",
    "identity:update_domain_config": _ADMIN,
    "identity:delete_domain_config": _ADMIN,
    "identity:get_domain_config_default": _ADMIN_OR_SYSTEM_READER,
}

RULES: dict[str, str] = {
    **_BASE,
    **_TOKENS,
    **_USERS,
    **_GROUPS,
    **_PROJECTS,
    **_DOMAINS,
    **_ROLES,
    **_GRANTS,
    **_CATALOG,
    **_ENDPOINT_FILTER,
    **_ENDPOINT_POLICY,
    **_CREDENTIALS,
    **_ACCESS_RULES,
    **_TRUSTS,
    **_SERVICE_PROVIDERS,
    **_LIMITS,
    **_NODES,
    **_OAUTH1,
    **_FEDERATION,
    **_DOMAIN_CONFIG,
}

# Scopes ---------------------------------------------------------------------------------------------------------------

_ANYWHERE = frozenset({"system", "domain", "project"})
_IN_PROJECTS = frozenset({"project"})
_USUAL = frozenset({"system", "project"})
_EVERY_SCOPE = {
    *_PROJECTS,
    *_GROUPS,
    *(f"identity:{verb}_user" for verb in ("get", "create", "update", "delete")),
    "identity:list_users",
    *(f"identity:{verb}_credential" for verb in ("get", "create", "update", "delete")),
    "identity:list_credentials",
    *(f"identity:{verb}_token" for verb in ("check", "validate", "revoke")),
    *(f"identity:{verb}_grant" for verb in ("check", "create", "revoke")),
    "identity:list_grants",
    "identity:list_role_assignments",
    "identity:list_role_assignments_for_tree",
    "identity:get_domain",
    "identity:list_domains",
    "identity:get_role",
    "identity:list_roles",
    "identity:get_region",
    "identity:list_regions",
    "identity:get_registered_limit",
    "identity:list_registered_limits",
    "identity:get_limit_model",
    "identity:get_limit",
    "identity:list_limits",
    "identity:ec2tokens_validate",
    "identity:s3tokens_validate",
    "identity:get_security_compliance_domain_config",
    "identity:get_revision",
}
_PROJECT_SCOPE = {
    "identity:create_trust",
    "identity:create_application_credential",
    "identity:authorize_request_token",
    "identity:get_access_token",
    "identity:get_access_token_role",
    "identity:list_access_tokens",
    "identity:list_access_token_roles",
    "identity:delete_access_token",
}
_NO_SCOPE_ASKED = {
    *_BASE,
    *(f"identity:get_auth_{what}" for what in ("catalog", "projects", "domains", "system")),
    "identity:list_projects_for_user",
    "identity:list_domains_for_user",
}


def _scopes_of(rule: str) -> frozenset[str]:
    if rule in _PROJECT_SCOPE:
        return _IN_PROJECTS
    return _ANYWHERE if rule in _EVERY_SCOPE else _USUAL


SCOPES: dict[str, frozenset[str]] = {name: _scopes_of(name) for name in RULES if name not in _NO_SCOPE_ASKED}
"""The scopes whose tokens each rule takes, upstream's `scope_types`; a token without a scope counts as one of a project."""
