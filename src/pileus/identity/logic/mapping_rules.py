"""The mapping engine: from an assertion, what an identity provider says of a user, to what that user is here.

Pure: no database, no request. An assertion has texts by name; a semicolon separates several values. Names are those of a WSGI
environment: case, dashes and underscores do not matter, nor does HTTP_ before them, so that `HTTP_OIDC_EMAIL` and
`OIDC-email` are the same.

A rule counts when all its `remote` conditions hold; then its `local` part does, with {0}, {1} ... replaced by the values of
those conditions that only filter. Of several users the first counts, of several lists of projects the last, as upstream has it.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pileus.kernel import clock

Assertion = Mapping[str, "str | Sequence[str]"]
Values = Sequence[Sequence[str]]

LONGEST_PATTERN = 512
LONGEST_SUBJECT = 2048
REGEX_SECONDS = 0.5
"""For all regular expressions of one evaluation together."""

PLACEHOLDER = re.compile(r"\{(\d{1,4})\}")
_SCHEMA_WITH_DOMAINS = "2.0"


class Unmapped(Exception):
    """The rules do not make a user out of the assertion; the text is for the log."""


@dataclasses.dataclass(frozen=True, slots=True)
class Domain:
    """By id, or else by name."""

    id: str | None = None
    name: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    name: str
    domain: Domain


@dataclasses.dataclass(frozen=True, slots=True)
class Project:
    """A project to be made unless it is there, and the names of the roles that the user gets on it."""

    name: str
    roles: tuple[str, ...]
    domain: Domain | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """`local` is one that exists here; others are made from what the identity provider says."""

    id: str | None = None
    name: str | None = None
    email: str | None = None
    domain: Domain | None = None
    local: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Mapped:
    """What an assertion comes to."""

    user: User
    group_ids: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    projects: tuple[Project, ...] = ()


def canonical(name: str) -> str:
    """The form in which names of an assertion are compared."""
    return name.upper().replace("-", "_").removeprefix("HTTP_")


def values_of(assertion: Assertion) -> dict[str, tuple[str, ...]]:
    """The values by canonical name; empty ones say nothing and are left out."""
    found: dict[str, tuple[str, ...]] = {}
    for name, told in assertion.items():
        values = tuple(value for value in (told.split(";") if isinstance(told, str) else told) if value)
        if values:
            found[canonical(name)] = values
    return found


def evaluate(rules: Sequence[Mapping[str, Any]], version: str, assertion: Assertion) -> Mapped:
    """Apply rules (which `mapping_schema` has checked) to an assertion. Raises Unmapped."""
    values, clockwork = values_of(assertion), _Patience()
    user: User | None = None
    group_ids: dict[str, None] = {}
    groups: dict[Group, None] = {}
    projects: tuple[Project, ...] = ()
    matched = False
    for rule in rules:
        told = _matched(rule["remote"], values, clockwork)
        if told is None:
            continue
        for local in rule["local"]:
            matched = True
            if user is None and "user" in local:
                user = _user(local, version, told)
            group_ids.update(dict.fromkeys(_group_ids(local, told)))
            groups.update(dict.fromkeys(_groups(local, told)))
            if "projects" in local:
                projects = tuple(_project(one, local, version, told) for one in local["projects"])
    if not matched:
        raise Unmapped("no rule of the mapping fits the assertion")
    return Mapped(user or User(), tuple(group_ids), tuple(groups), projects)


# Remote: does a rule count, and with which values? ---------------------------------------------------------------------


class _Patience:
    """Lets regular expressions take so much time and no more: one that runs away must not hold a thread."""

    def __init__(self) -> None:
        self._left = REGEX_SECONDS

    def search(self, pattern: str, text: str) -> bool:
        """Raises Unmapped where no answer was found in time."""
        import regex  # noqa: PLC0415 - of use to few, and unlike `re` it can be stopped

        if len(text) > LONGEST_SUBJECT:
            raise Unmapped(f"a value of {len(text)} characters is too long for a regular expression")
        began = clock.monotonic()
        try:
            found = regex.search(pattern, text, timeout=max(self._left, 0.001), concurrent=True)
        except (TimeoutError, regex.error, RecursionError, MemoryError) as error:
            raise Unmapped(f"regular expression {pattern!r}: {type(error).__name__}") from None
        finally:
            self._left -= clock.monotonic() - began
        return found is not None


def _matched(
    conditions: Sequence[Mapping[str, Any]], values: Mapping[str, tuple[str, ...]], patience: _Patience
) -> list[tuple[str, ...]] | None:
    """What {0}, {1} ... stand for, or None when a condition does not hold."""
    told: list[tuple[str, ...]] = []
    for condition in conditions:
        here = values.get(canonical(condition["type"]))
        if here is None:
            return None
        by_regex = bool(condition.get("regex"))
        if "any_one_of" in condition:
            if not _among(here, condition["any_one_of"], by_regex, patience):
                return None
        elif "not_any_of" in condition:
            if _among(here, condition["not_any_of"], by_regex, patience):
                return None
        elif "blacklist" in condition:
            unwanted = _among(here, condition["blacklist"], by_regex, patience)
            told.append(tuple(value for value in here if value not in unwanted))
        elif "whitelist" in condition:
            told.append(tuple(_among(here, condition["whitelist"], by_regex, patience)))
        else:
            told.append(here)
    return told


def _among(values: Sequence[str], wanted: Sequence[str], by_regex: bool, patience: _Patience) -> list[str]:
    """Those of the values that are wanted, in their order."""
    if not by_regex:
        return [value for value in values if value in wanted]
    return [value for value in values if any(patience.search(pattern, value) for pattern in wanted)]


# Local: who is it here? ------------------------------------------------------------------------------------------------


def _text(template: str, told: Values) -> str:
    """The template with its placeholders replaced, once: what an identity provider says is never a template itself."""

    def replace(found: re.Match[str]) -> str:
        number = int(found.group(1))
        if number >= len(told):
            raise Unmapped(f"there is no condition for {found.group(0)}")
        return ";".join(told[number])

    return PLACEHOLDER.sub(replace, template)


def _many(template: str, told: Values) -> Iterable[str]:
    """All values of a placeholder that stands alone; else the one text, or the texts of a list written as a text."""
    alone = PLACEHOLDER.fullmatch(template)
    if alone is not None and int(alone.group(1)) < len(told):
        return told[int(alone.group(1))]
    if PLACEHOLDER.search(template) is None and (written := written_list(template)) is not None:
        return written
    return (_text(template, told),)


def written_list(text: str) -> tuple[str, ...] | None:
    """The items of "['a', 'b']", or None for any other text."""
    if not text.startswith("["):
        return None
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return tuple(found) if all(isinstance(one, str) for one in found) else None


def _domain(given: Mapping[str, str] | None, told: Values) -> Domain | None:
    if not given:
        return None
    by_id = _text(given["id"], told) if "id" in given else None
    by_name = _text(given["name"], told) if "name" in given else None
    return Domain(by_id, by_name) if by_id or by_name else None


def _domain_in(given: Mapping[str, Any], local: Mapping[str, Any], version: str, told: Values) -> Domain | None:
    """Its own domain, or since schema 2.0 that of the rule."""
    own = _domain(given.get("domain"), told)
    return own if own is not None or version != _SCHEMA_WITH_DOMAINS else _domain(local.get("domain"), told)


def _user(local: Mapping[str, Any], version: str, told: Values) -> User:
    given = local["user"]
    texts = {name: _text(given[name], told) or None for name in ("id", "name", "email") if name in given}
    domain = _domain_in(given, local, version, told)
    return User(**texts, domain=domain, local=given.get("type") == "local")


def _group_ids(local: Mapping[str, Any], told: Values) -> Iterable[str]:
    if "id" in local.get("group", ()):
        yield _text(local["group"]["id"], told)
    if "group_ids" in local:
        yield from _many(local["group_ids"], told)


def _groups(local: Mapping[str, Any], told: Values) -> Iterable[Group]:
    group = local.get("group", {})
    if "name" in group and (domain := _domain(group["domain"], told)) is not None:
        yield Group(_text(group["name"], told), domain)
    if "groups" in local and (domain := _domain(local["domain"], told)) is not None:
        yield from (Group(name, domain) for name in _many(local["groups"], told))


def _project(given: Mapping[str, Any], local: Mapping[str, Any], version: str, told: Values) -> Project:
    roles = tuple(dict.fromkeys(_text(role["name"], told) for role in given["roles"]))
    domain = _domain_in(given, local, version, told) if version == _SCHEMA_WITH_DOMAINS else None
    return Project(_text(given["name"], told), roles, domain)
