"""Entries of an LDAP directory as users and groups, and the filters that find them. Nothing here talks to anybody."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pileus.identity.wire import Ldap, Named, Person, Team, Wanted
from pileus.kernel.errors import Invalid

Values = Mapping[str, list[bytes]]
"""The values of an entry by attribute in lower case."""

Key = tuple[tuple[tuple[str, str], ...], ...] | str
"""A name of an entry by which two spellings of it are the same."""

_ATTRIBUTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_HEX = re.compile(r"[0-9A-Fa-f]{2}")
_TRUE = frozenset({"true", "1", "yes", "on"})
_OWN = frozenset(
    {"id", "name", "domain_id", "enabled", "password", "password_expires_at", "options", "links", "default_project_id"}
)
"""What the API itself says of a user or group; no further attribute may take such a name."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """Where users, or groups, are and by which attributes they are known."""

    tree: str
    objectclass: str
    filter: str
    id_attribute: str
    name_attribute: str
    extra: tuple[tuple[str, str], ...]  # (attribute, the name that the API shows)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry as it came."""

    dn: str
    values: Values

    def text(self, attribute: str) -> str | None:
        """The first value that is text."""
        found = self.texts(attribute)
        return found[0] if found else None

    def texts(self, attribute: str) -> list[str]:
        read = (_decoded(attribute, raw) for raw in self.values.get(attribute.lower(), ()))
        return [text for text in read if text]


def people_of(options: Ldap) -> Kind:
    """Users, as the options describe them."""
    shown = [
        (options.user_mail_attribute, "email"),
        (options.user_description_attribute, "description"),
        *mapping(options.user_additional_attribute_mapping),
    ]
    return Kind(
        tree=options.user_tree_dn or options.suffix,
        objectclass=options.user_objectclass,
        filter=options.user_filter or "",
        id_attribute=options.user_id_attribute,
        name_attribute=options.user_name_attribute,
        extra=tuple(pair for pair in shown if pair[1] not in options.user_attribute_ignore),
    )


def teams_of(options: Ldap) -> Kind:
    """Groups, as the options describe them."""
    shown = [(options.group_desc_attribute, "description"), *mapping(options.group_additional_attribute_mapping)]
    return Kind(
        tree=options.group_tree_dn or options.suffix,
        objectclass=options.group_objectclass,
        filter=options.group_filter or "",
        id_attribute=options.group_id_attribute,
        name_attribute=options.group_name_attribute,
        extra=tuple(pair for pair in shown if pair[1] not in options.group_attribute_ignore),
    )


def mapping(pairs: Sequence[str]) -> list[tuple[str, str]]:
    """`attribute:name` pairs. Raises Invalid for a name that the API keeps for itself."""
    found = []
    for pair in pairs:
        attribute, _, name = pair.partition(":")
        if not attribute.strip() or not name.strip():
            raise Invalid(f"{pair!r} is not of the form attribute:name.")
        if name.strip() in _OWN:
            raise Invalid(f"{name.strip()!r} cannot be mapped: it is not a further attribute.")
        found.append((attribute.strip(), name.strip()))
    return found


# Filters --------------------------------------------------------------------------------------------------------------


def escaped(value: str | bytes) -> str:
    """A value for a filter: whatever is not a plain letter or digit is escaped, so that it can never be syntax."""
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\{byte:02x}" for byte in raw)


def any_of(parts: Iterable[str]) -> str:
    return f"(|{''.join(parts)})"


def matching(kind: Kind, *conditions: str) -> str:
    """The filter of this kind of entries that fit all conditions."""
    return f"(&(objectClass={escaped(kind.objectclass)}){kind.filter}({kind.id_attribute}=*){''.join(conditions)})"


def conditions(kind: Kind, wanted: Wanted) -> list[str]:
    found = [_name_condition(kind.name_attribute, named) for named in wanted.names]
    if wanted.ids is not None:
        found.append(any_of(f"({kind.id_attribute}={_id_value(kind.id_attribute, one)})" for one in wanted.ids))
    return found


def _name_condition(attribute: str, named: Named) -> str:
    value = escaped(named.value)
    match named.comparator.removeprefix("i"):
        case "contains":
            value = f"*{value}*" if value else "*"
        case "startswith":
            value = f"{value}*"
        case "endswith":
            value = f"*{value}"
    return f"({attribute}={value})"


def _id_value(attribute: str, local_id: str) -> str:
    if attribute.lower() == "objectguid":
        try:
            return escaped(uuid.UUID(local_id).bytes_le)
        except ValueError:
            pass
    return escaped(local_id)


def relative_name(dn: str) -> str | None:
    """A filter that the entry of this name fits: an entry has the values that its name is made of."""
    try:
        first = parts_of(dn)[0]
    except ValueError:
        return None
    found = [f"({attribute}={escaped(value)})" for attribute, value in first]
    return f"(&{''.join(found)})" if len(found) > 1 else found[0]


def key_of(dn: str) -> Key:
    """By this, two spellings of one name are the same."""
    try:
        return tuple(tuple(sorted((name.lower(), value.lower()) for name, value in part)) for part in parts_of(dn))
    except ValueError:
        return dn.lower()


def parts_of(dn: str) -> list[list[tuple[str, str]]]:
    """The parts of a distinguished name (RFC 4514), each of one attribute and value or of several.

    ldap3's own parser refuses names that servers give out. Raises ValueError.
    """
    found = []
    for part in _split(dn, ",;"):
        pairs = []
        for pair in _split(part, "+"):
            attribute, equals, value = pair.partition("=")
            if not equals or not _ATTRIBUTE.fullmatch(attribute.strip()):
                raise ValueError(dn)
            pairs.append((attribute.strip(), _unescaped(_trimmed(value))))
        found.append(pairs)
    return found


def _split(text: str, separators: str) -> list[str]:
    """Cut at separators that are not escaped."""
    found, start, position = [], 0, 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] in separators:
            found.append(text[start:position])
            start = position + 1
        position += 1
    return [*found, text[start:]]


def _trimmed(value: str) -> str:
    """Without spaces around it; one at the end that is escaped is part of it."""
    value = value.lstrip(" ")
    bare = value.rstrip(" ")
    return bare + " " if bare != value and (len(bare) - len(bare.rstrip("\\"))) % 2 else bare


def _unescaped(value: str) -> str:
    """A value out of a distinguished name, without its backslashes."""
    found, position = bytearray(), 0
    while position < len(value):
        letter, pair = value[position], value[position + 1 : position + 3]
        if letter == "\\" and _HEX.fullmatch(pair):
            found.append(int(pair, 16))
            position += 3
        elif letter == "\\" and pair:
            found += pair[0].encode("utf-8", "surrogateescape")
            position += 2
        else:
            found += letter.encode("utf-8", "surrogateescape")
            position += 1
    return found.decode("utf-8", "replace")


# Entries --------------------------------------------------------------------------------------------------------------


def person(options: Ldap, kind: Kind, entry: Entry, enabled: bool | None) -> Person | None:
    """The user that an entry is, if it can be one. `enabled` None is what the entry says itself."""
    local_id, name = identity(kind, entry)
    if local_id is None or name is None:
        return None
    project = None
    if options.user_default_project_id_attribute and "default_project_id" not in options.user_attribute_ignore:
        project = entry.text(options.user_default_project_id_attribute)
    return Person(
        local_id=local_id,
        name=name,
        handle=entry.dn,
        enabled=is_enabled(options, entry) if enabled is None else enabled,
        default_project_id=project if project and len(project) <= 64 else None,
        extra=_extra(kind, entry),
    )


def team(kind: Kind, entry: Entry) -> Team | None:
    """The group that an entry is, if it can be one."""
    local_id, name = identity(kind, entry)
    if local_id is None or name is None:
        return None
    extra = _extra(kind, entry)
    described = extra.pop("description", "")
    description = described if isinstance(described, str) else " ".join(described)
    return Team(local_id=local_id, name=name, handle=entry.dn, description=description, extra=extra)


def identity(kind: Kind, entry: Entry) -> tuple[str | None, str | None]:
    """Id and name of an entry. Of several values that one counts by which the entry is called; an id is never guessed."""
    key = key_of(entry.dn)
    called = {} if isinstance(key, str) else dict(key[0])
    local_id = _one(entry, kind.id_attribute, called)
    names = entry.texts(kind.name_attribute)
    return local_id, _one(entry, kind.name_attribute, called) or (min(names) if names else None)


def _one(entry: Entry, attribute: str, called: Mapping[str, str]) -> str | None:
    texts = entry.texts(attribute)
    if len(texts) > 1:
        texts = [text for text in texts if text.lower() == called.get(attribute.lower())]
    return texts[0] if texts else None


def is_enabled(options: Ldap, entry: Entry) -> bool:
    """What the entry says of itself, as upstream reads the four options."""
    default = options.user_enabled_default
    text = default if "enabled" in options.user_attribute_ignore else entry.text(options.user_enabled_attribute) or default
    if options.user_enabled_mask:
        number = int(text) if text.lstrip("-").isdigit() else options.user_enabled_mask
        return number & options.user_enabled_mask != options.user_enabled_mask
    said = text.strip().lower()
    if options.user_enabled_invert:
        return said not in _TRUE
    return said in _TRUE or (said.lstrip("-").isdigit() and said.strip("-0") != "")


def _extra(kind: Kind, entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute, name in kind.extra:
        texts = entry.texts(attribute)
        if texts:
            found[name] = texts[0] if len(texts) == 1 else texts
    return found


def _decoded(attribute: str, raw: bytes) -> str | None:
    if attribute.lower() == "objectguid" and len(raw) == 16:
        return str(uuid.UUID(bytes_le=raw))
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
