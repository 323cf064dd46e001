"""The home document: under which relation names the resources of v3 are found (JSON Home)."""

from __future__ import annotations

import functools
import re
from typing import Any

_BASE = "https://docs.openstack.org/api/openstack-identity/3"
_INHERIT = "/ext/OS-INHERIT/1.0"

_GRANT = "{target}s/{{{target}_id}}/{actor}s/{{{actor}_id}}/roles"

# Relation name, path below /v3. A name may begin with the path of its extension.
_RESOURCES: list[tuple[str, str]] = [
    ("auth_tokens", "/auth/tokens"),
    ("auth_catalog", "/auth/catalog"),
    ("auth_projects", "/auth/projects"),
    ("auth_domains", "/auth/domains"),
    ("auth_system", "/auth/system"),
    ("users", "/users"),
    ("user", "/users/{user_id}"),
    ("user_change_password", "/users/{user_id}/password"),
    ("user_groups", "/users/{user_id}/groups"),
    ("user_projects", "/users/{user_id}/projects"),
    ("application_credentials", "/users/{user_id}/application_credentials"),
    ("application_credential", "/users/{user_id}/application_credentials/{application_credential_id}"),
    ("access_rules", "/users/{user_id}/access_rules"),
    ("access_rule", "/users/{user_id}/access_rules/{access_rule_id}"),
    ("groups", "/groups"),
    ("group", "/groups/{group_id}"),
    ("group_users", "/groups/{group_id}/users"),
    ("group_user", "/groups/{group_id}/users/{user_id}"),
    ("projects", "/projects"),
    ("project", "/projects/{project_id}"),
    ("project_tags", "/projects/{project_id}/tags"),
    ("domains", "/domains"),
    ("domain", "/domains/{domain_id}"),
    ("roles", "/roles"),
    ("role", "/roles/{role_id}"),
    ("implied_roles", "/roles/{prior_role_id}/implies"),
    ("implied_role", "/roles/{prior_role_id}/implies/{implied_role_id}"),
    ("role_inferences", "/role_inferences"),
    ("role_assignments", "/role_assignments"),
    ("regions", "/regions"),
    ("region", "/regions/{region_id}"),
    ("services", "/services"),
    ("service", "/services/{service_id}"),
    ("endpoints", "/endpoints"),
    ("endpoint", "/endpoints/{endpoint_id}"),
    ("credentials", "/credentials"),
    ("credential", "/credentials/{credential_id}"),
    ("system_user_roles", "/system/users/{user_id}/roles"),
    ("system_user_role", "/system/users/{user_id}/roles/{role_id}"),
    ("system_group_roles", "/system/groups/{group_id}/roles"),
    ("system_group_role", "/system/groups/{group_id}/roles/{role_id}"),
]
_RESOURCES += [
    ("/ext/OS-EC2/1.0:ec2tokens", "/ec2tokens"),
    ("/ext/s3tokens/1.0:s3tokens", "/s3tokens"),
]

_RESOURCES += [("/ext/OS-REVOKE/1.0:events", "/OS-REVOKE/events"), ("/ext/OS-OAUTH2/1.0:token", "/OS-OAUTH2/token")]
_POLICY = "/ext/OS-ENDPOINT-POLICY/1.0"
_RESOURCES += [
    (f"{_POLICY}:policy_endpoints", "/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints"),
    (f"{_POLICY}:endpoint_policy_association", "/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}"),
    (f"{_POLICY}:service_policy_association", "/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}"),
    (
        f"{_POLICY}:region_and_service_policy_association",
        "/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}",
    ),
    (f"{_POLICY}:endpoint_policy", "/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy"),
]
_FILTER = "/ext/OS-EP-FILTER/1.0"
_RESOURCES += [
    (f"{_FILTER}:endpoint_groups", "/OS-EP-FILTER/endpoint_groups"),
    (f"{_FILTER}:endpoint_group", "/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}"),
    (f"{_FILTER}:endpoints_in_endpoint_group", "/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints"),
    (
        f"{_FILTER}:projects_associated_with_endpoint_group",
        "/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects",
    ),
    (
        f"{_FILTER}:endpoint_group_to_project_association",
        "/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}",
    ),
    (f"{_FILTER}:endpoint_projects", "/OS-EP-FILTER/endpoints/{endpoint_id}/projects"),
    (f"{_FILTER}:project_endpoint", "/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}"),
    (f"{_FILTER}:project_endpoints", "/OS-EP-FILTER/projects/{project_id}/endpoints"),
    (f"{_FILTER}:project_endpoint_groups", "/OS-EP-FILTER/projects/{project_id}/endpoint_groups"),
]
_TRUST = "/ext/OS-TRUST/1.0"
_RESOURCES += [
    (f"{_TRUST}:trusts", "/OS-TRUST/trusts"),
    (f"{_TRUST}:trust", "/OS-TRUST/trusts/{trust_id}"),
    (f"{_TRUST}:trust_roles", "/OS-TRUST/trusts/{trust_id}/roles"),
    (f"{_TRUST}:trust_role", "/OS-TRUST/trusts/{trust_id}/roles/{role_id}"),
    ("/ext/OS-EC2/1.0:user_credentials", "/users/{user_id}/credentials/OS-EC2"),
    ("/ext/OS-EC2/1.0:user_credential", "/users/{user_id}/credentials/OS-EC2/{credential_id}"),
    ("/ext/OS-PKI/1.0:revocations", "/auth/tokens/OS-PKI/revoked"),
    ("policies", "/policies"),
    ("policy", "/policies/{policy_id}"),
    ("registered_limits", "/registered_limits"),
    ("registered_limit", "/registered_limits/{registered_limit_id}"),
    ("limits", "/limits"),
    ("limit", "/limits/{limit_id}"),
    ("limit_model", "/limits/model"),
]
_OAUTH1, _GRANTED = "/ext/OS-OAUTH1/1.0", "/users/{user_id}/OS-OAUTH1/access_tokens"
_RESOURCES += [
    (f"{_OAUTH1}:consumers", "/OS-OAUTH1/consumers"),
    (f"{_OAUTH1}:consumer", "/OS-OAUTH1/consumers/{consumer_id}"),
    (f"{_OAUTH1}:request_tokens", "/OS-OAUTH1/request_token"),
    (f"{_OAUTH1}:authorize_request_token", "/OS-OAUTH1/authorize/{request_token_id}"),
    (f"{_OAUTH1}:access_tokens", "/OS-OAUTH1/access_token"),
    (f"{_OAUTH1}:user_access_tokens", _GRANTED),
    (f"{_OAUTH1}:user_access_token", _GRANTED + "/{access_token_id}"),
    (f"{_OAUTH1}:user_access_token_roles", _GRANTED + "/{access_token_id}/roles"),
    (f"{_OAUTH1}:user_access_token_role", _GRANTED + "/{access_token_id}/roles/{role_id}"),
    ("/ext/OS-SIMPLE-CERT/1.0:ca_certificate", "/OS-SIMPLE-CERT/ca"),
    ("/ext/OS-SIMPLE-CERT/1.0:certificates", "/OS-SIMPLE-CERT/certificates"),
]
_FEDERATION, _PROVIDER = "/ext/OS-FEDERATION/1.0", "/OS-FEDERATION/identity_providers/{idp_id}"
_RESOURCES += [
    (f"{_FEDERATION}:identity_providers", "/OS-FEDERATION/identity_providers"),
    (f"{_FEDERATION}:identity_provider", _PROVIDER),
    (f"{_FEDERATION}:identity_provider_protocols", f"{_PROVIDER}/protocols"),
    (f"{_FEDERATION}:identity_provider_protocol", f"{_PROVIDER}/protocols/{{protocol_id}}"),
    (f"{_FEDERATION}:identity_provider_protocol_auth", f"{_PROVIDER}/protocols/{{protocol_id}}/auth"),
    (f"{_FEDERATION}:mappings", "/OS-FEDERATION/mappings"),
    (f"{_FEDERATION}:mapping", "/OS-FEDERATION/mappings/{mapping_id}"),
    (f"{_FEDERATION}:projects", "/auth/projects"),
    (f"{_FEDERATION}:domains", "/auth/domains"),
    (f"{_FEDERATION}:websso", "/auth/OS-FEDERATION/websso/{protocol_id}"),
    (f"{_FEDERATION}:identity_providers_websso", f"/auth{_PROVIDER}/protocols/{{protocol_id}}/websso"),
    (f"{_FEDERATION}:service_providers", "/OS-FEDERATION/service_providers"),
    (f"{_FEDERATION}:service_provider", "/OS-FEDERATION/service_providers/{sp_id}"),
    (f"{_FEDERATION}:metadata", "/OS-FEDERATION/saml2/metadata"),
    (f"{_FEDERATION}:saml2", "/auth/OS-FEDERATION/saml2"),
    (f"{_FEDERATION}:ecp", "/auth/OS-FEDERATION/saml2/ecp"),
]
for _target in ("project", "domain"):
    for _actor in ("user", "group"):
        _path = "/" + _GRANT.format(target=_target, actor=_actor)
        _RESOURCES += [
            (f"{_target}_{_actor}_roles", _path),
            (f"{_target}_{_actor}_role", _path + "/{role_id}"),
            (
                f"{_INHERIT}:{_target}_{_actor}_role_inherited_to_projects",
                f"/OS-INHERIT{_path}/{{role_id}}/inherited_to_projects",
            ),
        ]
        if _target == "domain":
            _RESOURCES.append(
                (f"{_INHERIT}:domain_{_actor}_roles_inherited_to_projects", f"/OS-INHERIT{_path}/inherited_to_projects")
            )


# Variables that an extension has named, and names that differ from the variable's.
_OWN_VARIABLES = {
    "OS-EC2": {"credential_id"},
    "OS-TRUST": {"trust_id"},
    "OS-EP-FILTER": {"endpoint_group_id"},
    "OS-FEDERATION": {"idp_id", "protocol_id", "mapping_id", "sp_id", "identity_provider", "protocol"},
    "OS-OAUTH1": {"consumer_id", "request_token_id", "access_token_id"},
}
_OTHER_NAMES = {
    "group": "config_group",
    "option": "config_option",
    "identity_provider": "idp_id",
    "protocol": "protocol_id",
}
_EXPERIMENTAL = re.compile(r"(registered_)?limits?$|limit_model$|domain_config")


def _variable(extension: str, name: str) -> str:
    """The relation of a variable in a path of this extension ("" for the core)."""
    own = name in _OWN_VARIABLES.get(extension.removeprefix("/ext/").partition("/")[0], ())
    return f"{_BASE}{extension if own else ''}/param/{_OTHER_NAMES.get(name, name)}"


@functools.cache
def document(prefix: str) -> dict[str, Any]:
    """The whole document; paths are relative to where it is served."""
    resources: dict[str, Any] = {}
    for name, path in _RESOURCES:
        extension, _, relation = name.rpartition(":")
        entry: dict[str, Any]
        if variables := re.findall(r"\{([^}]+)\}", path):
            entry = {
                "href-template": prefix + path,
                "href-vars": {variable: _variable(extension, variable) for variable in variables},
            }
        else:
            entry = {"href": prefix + path}
        if _EXPERIMENTAL.match(relation):
            entry["hints"] = {"status": "experimental"}
        resources[f"{_BASE}{extension}/rel/{relation}"] = entry
    return {"resources": resources}
