"""The rules of one service: its defaults, and the operator's file above them.

A changed file acts at the next check (looked at once a second at most). A broken file stops the start; on reload it is
logged and the rules in force stay.
"""

from __future__ import annotations

import logging
import pathlib
import threading
from collections.abc import Collection, Mapping
from typing import Any

from pileus.kernel import clock
from pileus.kernel.context import Context
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.policy.language import Check, Credentials, PolicySyntaxError, compile_rule, references

_log = logging.getLogger(__name__)


class Policy:
    """Named rules and their answers.

    `defaults` maps rule names to rules. `path` is a YAML (or JSON) file of overrides and may be absent. `scopes` maps
    rule names to the scopes ("system", "domain", "project") whose tokens they take, whatever the file says; a rule that
    is not in it takes every token.
    """

    def __init__(
        self,
        defaults: Mapping[str, Any],
        path: pathlib.Path | None = None,
        scopes: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self._defaults = dict(defaults)
        self._scopes = dict(scopes or {})
        self._path = path
        self._stamp = self._read_stamp()
        self._looked = clock.monotonic()
        self._lock = threading.Lock()
        self._checks = self._compile()

    def names(self) -> list[str]:
        """All rule names."""
        return sorted(self._checks)

    def check(self, rule: str, context: Context, target: Mapping[str, Any]) -> bool:
        """Whether the rule allows this caller; an unknown rule allows nobody."""
        self._reload_if_changed()
        scopes = self._scopes.get(rule)
        if scopes is not None and scope_of(context) not in scopes:
            return False
        found = self._checks.get(rule)
        return found is not None and found(credentials_of(context), target)

    def _lookup(self, name: str) -> Check | None:
        return self._checks.get(name) or self._checks.get("default")

    def _compile(self) -> dict[str, Check]:
        rules = dict(self._defaults)
        rules.update(self._read_file())
        checks: dict[str, Check] = {}
        for name, rule in rules.items():
            try:
                checks[name] = compile_rule(rule, self._lookup)
            except PolicySyntaxError as error:
                raise ConfigurationError(f"policy rule {name!r}: {error}") from error
        if circle := _circle({name: references(rule) for name, rule in rules.items()}):
            raise ConfigurationError(f"policy rules name each other in a circle: {' -> '.join(circle)}")
        return checks

    def _read_file(self) -> dict[str, Any]:
        if self._path is None or not self._path.exists():
            return {}
        import yaml  # noqa: PLC0415 - only those who override policy pay for it

        try:
            content = yaml.safe_load(self._path.read_text())
        except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"policy file {self._path}: {error}") from error
        if content is None:  # nothing but comments
            return {}
        if not isinstance(content, dict):
            raise ConfigurationError(f"policy file {self._path}: a mapping of rule names to rules is wanted")
        for name, rule in content.items():
            if not isinstance(rule, (str, list)):
                raise ConfigurationError(f"policy file {self._path}: rule {name!r} is neither text nor a list")
        return content

    def _read_stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat() if self._path else None
        except FileNotFoundError:
            return None
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino) if stat else None

    def _reload_if_changed(self) -> None:
        if self._path is None or clock.monotonic() - self._looked < 1.0:
            return
        with self._lock:
            self._looked = clock.monotonic()
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                self._checks = self._compile()
                _log.info("policy reloaded", extra={"path": str(self._path)})
            except ConfigurationError:
                _log.exception("policy file refused, the rules in force stay")


def _circle(named: Mapping[str, set[str]]) -> list[str]:
    """Rules that name each other in a circle, in order; empty when there are none. Checking them would never end."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done or name not in named:
            return []
        for other in sorted(named[name]):
            if found := visit(other if other in named else "default", [*trail, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(named) if (found := visit(name, []))), [])


def scope_of(context: Context) -> str:
    """The kind of scope of the caller's token; one without a scope counts as one of a project, as oslo.policy has it."""
    if context.system_scope:
        return "system"
    return "domain" if context.domain_id else "project"


def credentials_of(context: Context) -> Credentials:
    """What rules may ask about the caller, under oslo.context's names and, below `token`, under identity's."""
    return {
        "token": {
            "user": {"id": context.user_id, "domain": {"id": context.user_domain_id}},
            "project": {"id": context.project_id, "domain": {"id": context.project_domain_id}},
            "domain": {"id": context.domain_id},
        },
        "user_id": context.user_id,
        "user_domain_id": context.user_domain_id,
        "project_id": context.project_id,
        "tenant_id": context.project_id,
        "tenant": context.project_id,
        "user": context.user_id,
        "project_domain_id": context.project_domain_id,
        "domain_id": context.domain_id,
        "system_scope": context.system_scope,
        "roles": [role.lower() for role in context.roles],
        "service_roles": [role.lower() for role in context.service_roles],
        "is_admin": context.is_admin,
        "is_admin_project": True,
    }
