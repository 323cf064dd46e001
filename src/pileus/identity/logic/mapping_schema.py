"""What a mapping may look like, checked before it is stored: what is wrong is said with its place, at once and not to the first
user who logs in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pileus.identity.errors import invalid

from .mapping_rules import LONGEST_PATTERN, PLACEHOLDER, written_list

VERSIONS = ("1.0", "2.0")
_KINDS = ("any_one_of", "not_any_of", "blacklist", "whitelist")


def check(rules: Any, version: str) -> None:
    """Raises Invalid with a sentence for the first thing that is wrong."""
    if version not in VERSIONS:
        raise invalid(f"Invalid mapping: schema_version is one of {', '.join(VERSIONS)}, not {version!r}.")
    if not isinstance(rules, list) or not rules:
        raise invalid("Invalid mapping: rules is a list of at least one rule.")
    for number, rule in enumerate(rules):
        _Rule(f"rule {number}", version).check(rule)


class _Rule:
    """One rule; `direct` is how many of its conditions have values for placeholders."""

    def __init__(self, where: str, version: str) -> None:
        self._where = where
        self._version = version
        self._direct = 0

    def check(self, rule: Any) -> None:
        self._object(rule, "", ("local", "remote"), required=("local", "remote"))
        for number, condition in enumerate(self._list(rule["remote"], "remote", least=1)):
            self._condition(condition, f"remote {number}")
        for number, local in enumerate(self._list(rule["local"], "local")):
            self._local(local, f"local {number}")

    # Pieces

    def _wrong(self, place: str, what: str) -> Exception:
        return invalid(f"Invalid mapping: {', '.join(part for part in (self._where, place) if part)}: {what}.")

    def _object(
        self, value: Any, place: str, allowed: Collection[str], required: Collection[str] = ()
    ) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(place, f"{value!r} is not an object")
        if unknown := sorted(set(value) - set(allowed)):
            raise self._wrong(place, f"{unknown[0]!r} is unknown here; there may be {', '.join(allowed)}")
        if missing := [name for name in required if name not in value]:
            raise self._wrong(place, f"{missing[0]!r} is missing")
        return value

    def _list(self, value: Any, place: str, least: int = 0) -> Sequence[Any]:
        if not isinstance(value, list) or len(value) < least:
            raise self._wrong(place, "it is a list" + (" of at least one entry" if least else ""))
        return value

    def _text(self, value: Any, place: str) -> None:
        """A text, whose placeholders must stand for something."""
        if not isinstance(value, str) or not value:
            raise self._wrong(place, f"{value!r} is not a text")
        for found in PLACEHOLDER.finditer(value):
            if int(found.group(1)) >= self._direct:
                raise self._wrong(
                    place,
                    f"{found.group(0)} stands for nothing: {self._direct} conditions of `remote` pass values on"
                    " (those without any_one_of and not_any_of)",
                )

    # Remote

    def _condition(self, given: Any, place: str) -> None:
        condition = self._object(given, place, ("type", *_KINDS, "regex"), required=("type",))
        if not isinstance(condition["type"], str) or not condition["type"]:
            raise self._wrong(f"{place}, type", f"{condition['type']!r} is not a text")
        kinds = [kind for kind in _KINDS if kind in condition]
        if len(kinds) > 1:
            raise self._wrong(place, f"{kinds[0]} and {kinds[1]} exclude each other")
        if not isinstance(condition.get("regex", False), bool):
            raise self._wrong(f"{place}, regex", f"{condition['regex']!r} is neither true nor false")
        if "regex" in condition and not kinds:
            raise self._wrong(place, f"regex needs one of {', '.join(_KINDS)}")
        for kind in kinds:
            for value in self._list(condition[kind], f"{place}, {kind}"):
                if not isinstance(value, str):
                    raise self._wrong(f"{place}, {kind}", f"{value!r} is not a text")
                if condition.get("regex"):
                    self._pattern(value, f"{place}, {kind}")
        if not kinds or kinds[0] in {"blacklist", "whitelist"}:
            self._direct += 1

    def _pattern(self, value: str, place: str) -> None:
        import regex  # noqa: PLC0415 - see mapping_rules

        if len(value) > LONGEST_PATTERN:
            raise self._wrong(place, f"a regular expression has at most {LONGEST_PATTERN} characters")
        try:
            regex.compile(value)
        except (regex.error, RecursionError, MemoryError, OverflowError) as error:
            raise self._wrong(place, f"{value!r} is no regular expression: {error}") from None

    # Local

    def _local(self, given: Any, place: str) -> None:
        allowed = ("user", "projects", "group", "groups", "group_ids", "domain")
        local = self._object(given, place, allowed)
        if "user" in local:
            self._user(local["user"], f"{place}, user")
        if "group" in local:
            self._group(local["group"], f"{place}, group")
        for name in ("groups", "group_ids"):
            if name in local:
                self._text(local[name], f"{place}, {name}")
                if (
                    local[name].startswith("[")
                    and not PLACEHOLDER.search(local[name])
                    and written_list(local[name]) is None
                ):
                    raise self._wrong(f"{place}, {name}", f"{local[name]!r} is no list of texts")
        if "groups" in local and "domain" not in local:
            raise self._wrong(place, "'groups' needs 'domain' beside it: in which domain are they")
        if "domain" in local:
            self._domain(local["domain"], f"{place}, domain")
        if "projects" in local:
            for number, project in enumerate(self._list(local["projects"], f"{place}, projects")):
                self._project(project, f"{place}, projects {number}")

    def _user(self, given: Any, place: str) -> None:
        user = self._object(given, place, ("id", "name", "email", "domain", "type"))
        for name in ("id", "name", "email"):
            if name in user:
                self._text(user[name], f"{place}, {name}")
        if user.get("type", "ephemeral") not in {"ephemeral", "local"}:
            raise self._wrong(f"{place}, type", f"{user['type']!r} is neither 'ephemeral' nor 'local'")
        if "domain" in user:
            self._domain(user["domain"], f"{place}, domain")

    def _domain(self, given: Any, place: str) -> None:
        domain = self._object(given, place, ("id", "name"))
        if not domain:
            raise self._wrong(place, "it has an id or a name")
        for name, value in domain.items():
            self._text(value, f"{place}, {name}")

    def _group(self, given: Any, place: str) -> None:
        if isinstance(given, dict) and "id" in given:
            self._text(self._object(given, place, ("id",))["id"], f"{place}, id")
            return
        group = self._object(given, place, ("name", "domain"), required=("name", "domain"))
        self._text(group["name"], f"{place}, name")
        self._domain(group["domain"], f"{place}, domain")

    def _project(self, given: Any, place: str) -> None:
        allowed = ("name", "roles", "domain") if self._version != "1.0" else ("name", "roles")
        project = self._object(given, place, allowed, required=("name", "roles"))
        self._text(project["name"], f"{place}, name")
        for number, role in enumerate(self._list(project["roles"], f"{place}, roles")):
            self._object(role, f"{place}, roles {number}", ("name",), required=("name",))
            self._text(role["name"], f"{place}, roles {number}, name")
        if "domain" in project:
            self._domain(project["domain"], f"{place}, domain")
