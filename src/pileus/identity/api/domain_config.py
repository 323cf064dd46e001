"""The configuration of domains: /v3/domains/{id}/config and the defaults of it."""

from __future__ import annotations

from typing import Any

from pileus.identity.errors import not_found
from pileus.identity.logic import domain_config, projects
from pileus.kernel.web import Call, Operations, Reply

operations = Operations()

_BODY = {"type": "object", "properties": {"config": {"type": "object"}}, "required": ["config"]}
_ALL = "/domains/{domain_id}/config"
_LEVELS = (
    ("", "the configuration of a domain"),
    ("/{group}", "a group of options of a domain"),
    ("/{group}/{option}", "an option of a domain"),
)


def show_config(call: Call) -> dict[str, Any]:
    """The rules of passwords are for everybody, who need not know whether there is such a domain."""
    domain_id, group, option = _names(call)
    if group == domain_config.COMPLIANCE:
        call.authorize(rule="identity:get_security_compliance_domain_config")
        return {"config": domain_config.security_compliance(call.service, domain_id, option)}
    call.authorize()
    _require_domain(call)
    return {"config": domain_config.show(call.service, domain_id, group, option)}


def update_config(call: Call) -> dict[str, Any]:
    _require_domain(call)
    domain_id, group, option = _names(call)
    return {"config": domain_config.update(call.service, domain_id, call.body["config"], group, option)}


def delete_config(call: Call) -> None:
    _require_domain(call)
    domain_config.delete(call.service, *_names(call))


def show_default(call: Call) -> dict[str, Any]:
    return {"config": domain_config.defaults(call.service, call.params.get("group"), call.params.get("option"))}


@operations("PUT", _ALL, rule="identity:create_domain_config", status=(201, 200), body=_BODY, summary="Set the configuration of a domain")
def create_config(call: Call) -> Reply:
    _require_domain(call)
    config, existed = domain_config.replace(call.service, call.params["domain_id"], call.body["config"])
    return Reply({"config": config}, status=200 if existed else 201)


for _path, _what in _LEVELS:
    operations("GET", _ALL + _path, rule="identity:get_domain_config", late=True, summary=f"Show {_what}")(show_config)
    operations("PATCH", _ALL + _path, rule="identity:update_domain_config", body=_BODY, summary=f"Change {_what}")(update_config)
    operations("DELETE", _ALL + _path, rule="identity:delete_domain_config", status=204, summary=f"Remove {_what}")(delete_config)
    operations(
        "GET", f"/domains/config{_path}/default", rule="identity:get_domain_config_default", summary=f"Show the default of {_what}"
    )(show_default)


def _names(call: Call) -> tuple[str, str | None, str | None]:
    return call.params["domain_id"], call.params.get("group"), call.params.get("option")


def _require_domain(call: Call) -> None:
    row, _tags = projects.find(call.service, call.params["domain_id"])
    if row is None or not row.is_domain:
        raise not_found("domain", call.params["domain_id"])
