"""Upstream's policy defaults, decided by oslo.policy: what the answers of Pileus are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from oslo_config import cfg
from oslo_policy import policy as oslo

from pileus.kernel.context import Context

_GROUPS = yaml.safe_load(Path(__file__).with_name("upstream_policy.yaml").read_text())
CHECKS: dict[str, str] = {rule: " ".join(group["check"].split()) for group in _GROUPS for rule in group["rules"]}
SCOPES: dict[str, list[str] | None] = {rule: group.get("scopes") for group in _GROUPS for rule in group["rules"]}


class Oracle:
    """oslo.policy with these rules and scopes; `file` stands above them as an operator's policy.yaml does."""

    def __init__(self, checks: Mapping[str, Any], scopes: Mapping[str, Iterable[str] | None], file: str = "") -> None:
        self._enforcer = oslo.Enforcer(cfg.ConfigOpts(), use_conf=False)
        for name, check in checks.items():
            allowed = scopes.get(name)
            self._enforcer.register_default(oslo.RuleDefault(name, check, scope_types=sorted(allowed) if allowed else None))
        rules = oslo.Rules.from_dict(dict(checks))
        rules.update(oslo.Rules.load(file) if file else {})
        self._enforcer.set_rules(rules, use_conf=False)
        self._enforcer.load_rules = lambda *_, **__: None

    def __call__(self, rule: str, context: Context, target: Mapping[str, Any]) -> bool:
        return bool(self._enforcer.enforce(rule, dict(target), credentials(context)))


def credentials(context: Context) -> dict[str, Any]:
    """The caller as keystone shows one to oslo.policy."""
    return {
        "user_id": context.user_id,
        "user_domain_id": context.user_domain_id,
        "project_id": context.project_id,
        "project_domain_id": context.project_domain_id,
        "domain_id": context.domain_id,
        "system_scope": context.system_scope,
        "roles": list(context.roles),
        "is_admin": False,
        "is_admin_project": True,
        "token": {
            "user": {"id": context.user_id, "domain": {"id": context.user_domain_id}},
            "project": {"id": context.project_id, "domain": {"id": context.project_domain_id}},
            "domain": {"id": context.domain_id},
        },
    }
