"""The configuration of domains: which driver their users come from, and the options of that."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pileus.identity.errors import InvalidDomainConfig, invalid, not_found
from pileus.identity.store import directories as store
from pileus.identity.store import projects, revision
from pileus.identity.store.directories import Options
from pileus.identity.wire import Ldap
from pileus.kernel.errors import Conflict, NotFound
from pileus.kernel.room import load
from pileus.kernel.service import Service

from . import directories
from .directories import Config

SECRET = {"identity": frozenset[str](), "ldap": frozenset({"password"})}
"""Options that are encrypted and never shown."""
SHOWN = {
    "identity": ("driver", "list_limit"),
    "ldap": tuple(name for name in Ldap.__struct_fields__ if name != "password"),
}
COMPLIANCE = "security_compliance"
_COMPLIANCE = ("password_regex", "password_regex_description")
_DRIVER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LONGEST = 8192
_ATTEMPTS = 5


def show(service: Service, domain_id: str, group: str | None = None, option: str | None = None) -> dict[str, Any]:
    """All options that are set, those of one group, or one, without the secret ones. Raises NotFound, InvalidDomainConfig."""
    _check_names(group, option)
    with service.db.read() as conn:
        options = store.options(conn, domain_id)
    found = directories.opened_options(service, tuple(one for one in options if one.sealed is None))
    if group is not None:
        found = {group: found[group]} if group in found else {}
    if option is not None:
        found = {group: {option: found[group][option]}} if group and option in found.get(group, {}) else {}
    if not found:
        raise _missing(domain_id, group, option)
    return found[group] if option is not None and group is not None else found


def replace(service: Service, domain_id: str, config: Any) -> tuple[Config, bool]:
    """Set the whole configuration; what is shown of it, and whether there was another one before."""
    _check(config)
    before, after = _change(service, domain_id, lambda _present: config)
    return _visible(after), bool(before)


def update(
    service: Service, domain_id: str, config: Any, group: str | None = None, option: str | None = None
) -> dict[str, Any]:
    """Add to the configuration, or change what is set of one group or option; what is shown of all of it then.

    Raises InvalidDomainConfig, NotFound, Invalid, Conflict.
    """
    _check_names(group, option)
    given = {group: config} if group is not None and option is not None else config
    _check(given)
    if group is not None and set(given) != {group}:
        raise InvalidDomainConfig(f"a change of group {group} has to name that group and no other")
    if group is not None and option is not None and set(given[group]) != {option}:
        raise InvalidDomainConfig(f"a change of option {option} in group {group} has to name that option and no other")

    def changed(present: Config) -> Config:
        if group is not None and (group not in present or (option is not None and option not in present[group])):
            raise _missing(domain_id, group, option)
        merged = {name: dict(values) for name, values in present.items()}
        for name, values in given.items():
            merged.setdefault(name, {}).update(values)
        return merged

    _before, after = _change(service, domain_id, changed)
    return _visible(after)


def delete(service: Service, domain_id: str, group: str | None = None, option: str | None = None) -> None:
    """Remove the configuration, or one group or option of it. Raises NotFound for what is not set."""
    _check_names(group, option)

    def changed(present: Config) -> Config:
        if group is None:
            return {}
        if group not in present or (option is not None and option not in present[group]):
            raise _missing(domain_id, group, option)
        left = {name: dict(values) for name, values in present.items()}
        if option is not None:
            del left[group][option]
        if option is None or not left[group]:
            del left[group]
        return left

    _change(service, domain_id, changed)


def defaults(service: Service, group: str | None = None, option: str | None = None) -> dict[str, Any]:
    """What counts where a domain sets nothing. Raises InvalidDomainConfig."""
    _check_names(group, option)
    if group is not None and option in SECRET[group]:
        raise InvalidDomainConfig(f"the default of option {option} in group {group} is not shown")
    plain = Ldap()
    found: Config = {
        "identity": {"driver": "sql", "list_limit": service.options.list_limit or None},
        "ldap": {name: getattr(plain, name) for name in SHOWN["ldap"]},
    }
    if group is None:
        return found
    return {option: found[group][option]} if option is not None else {group: found[group]}


def security_compliance(service: Service, domain_id: str, option: str | None = None) -> dict[str, Any]:
    """What passwords have to look like, for everybody to see. Raises InvalidDomainConfig."""
    if domain_id != service.options.default_domain_id:
        raise InvalidDomainConfig("the rules of passwords are shown of the default domain, and are the same in all")
    if option is not None and option not in _COMPLIANCE:
        raise InvalidDomainConfig(f"only {' and '.join(_COMPLIANCE)} are shown of group {COMPLIANCE}")
    found = {name: getattr(service.options, name, None) or None for name in _COMPLIANCE}
    return {option: found[option]} if option is not None else {COMPLIANCE: found}


def _check_names(group: str | None, option: str | None = None) -> None:
    if group is not None and group not in SHOWN:
        raise InvalidDomainConfig(f"group {group} is not supported for domains")
    if group is not None and option is not None and option not in SHOWN[group] and option not in SECRET[group]:
        raise InvalidDomainConfig(f"option {option} in group {group} is not supported for domains")


def _check(config: Any) -> None:
    if not isinstance(config, dict) or not config:
        raise InvalidDomainConfig("no options are given")
    for group, values in config.items():
        if not isinstance(values, dict) or not values:
            raise InvalidDomainConfig(f"the value of group {group} has to be options by name")
        for option, value in values.items():
            _check_names(group, option)
            if value is None:
                raise invalid(f"{group}.{option} has no value; to go back to the default, delete the option.")
            if isinstance(value, str) and len(value) > _LONGEST:
                raise invalid(f"{group}.{option} is longer than {_LONGEST} characters.")


def _check_values(config: Config) -> None:
    """Whether the whole of it can be used. Raises Invalid."""
    own = config.get("identity", {})
    driver = own.get("driver", "sql")
    if not isinstance(driver, str) or not _DRIVER_NAME.fullmatch(driver):
        raise invalid("identity.driver is the name of a driver: sql or ldap.")
    limit = own.get("list_limit", 1)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit <= 1_000_000:
        raise invalid("identity.list_limit is a whole number; 0 is no limit.")
    if "ldap" in config:
        plain = directories.substituted(config)["ldap"]
        load(f"{directories.DRIVER}:check")(directories.parsed(plain))


def _change(service: Service, domain_id: str, changed: Callable[[Config], Config]) -> tuple[Options, Config]:
    """Change the configuration as of now; all that hangs on it follows in the same transaction."""
    for _attempt in range(_ATTEMPTS):
        with service.db.read() as conn:
            before = store.options(conn, domain_id)
        config = changed(directories.opened_options(service, before))
        _check_values(config)
        after = directories.sealed_options(service, config, SECRET)
        if _stored(service, domain_id, before, after, turned_on=config.get("identity", {}).get("driver", "sql") != "sql"):
            directories.close(service, domain_id)
            service.loops.nudge("directories")
            return before, config
    raise Conflict("The configuration of the domain is being changed by others; try again.")


def _stored(service: Service, domain_id: str, before: Options, after: Options, *, turned_on: bool) -> bool:
    with service.db.write() as conn:
        if projects.domain(conn, domain_id, "update") is None:
            raise not_found("domain", domain_id)
        if store.options(conn, domain_id) != before:
            return False
        was_on = store.is_directory(conn, domain_id)
        if turned_on and not was_on and store.has_people_of_its_own(conn, domain_id):
            raise Conflict("The domain has users or groups of its own: a directory can be set for one that has none.")
        store.replace_options(conn, domain_id, after)
        if was_on and not turned_on:
            store.mark_all_gone(conn, domain_id)
        revision.advance(conn)
    return True


def _visible(config: Config) -> Config:
    found = {
        group: {name: value for name, value in values.items() if name not in SECRET[group]}
        for group, values in config.items()
    }
    return {group: values for group, values in found.items() if values}


def _missing(domain_id: str, group: str | None, option: str | None) -> NotFound:
    what = f"option {option} in group {group}" if option is not None else f"group {group}" if group is not None else "any options"
    return NotFound(f"Could not find {what} in domain configuration for domain {domain_id}.")
