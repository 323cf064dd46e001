"""Users and groups of an LDAP directory, read as upstream's options say."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.operation.search import parse_filter

from pileus.identity.errors import DirectoryLimit, DirectoryUnavailable
from pileus.identity.wire import Ldap, Person, Team, Wanted
from pileus.kernel import ids
from pileus.kernel.errors import Invalid

from . import ldap_entries as entries
from .ldap_entries import Entry, Key, Kind
from .ldap_links import Circuit, Opener, Pool, references

_TOGETHER = 100
"""Entries that are asked for by one filter."""
_FEW = 3
"""For so many users their groups are searched one by one; for more all groups are read once."""
_DEPTH = 32
"""Levels of groups in groups that are followed."""
_NO_SUCH_OBJECT, _SIZE_LIMIT = 32, 4
_REFUSALS = {19: "constraint violation", 32: "no such entry", 34: "bad name", 48: "no password", 49: "wrong password",
             50: "no right to log in", 53: "unwilling"}  # fmt: skip
_SECRET = {"userpassword", "2.5.4.35", "unicodepwd"}
"""Attributes that hold passwords, whatever the options say."""
_IGNORABLE = {"email", "description", "default_project_id", "enabled", "password"}


def open_directory(options: Ldap) -> LdapDirectory:
    """The directory of these options; nothing is connected yet."""
    return LdapDirectory(options)


def check(options: Ldap) -> None:
    """Raises Invalid, with a sentence, for options that cannot be used or would have no effect."""
    for url in options.url.split(","):
        _check_url(url.strip(), options)
    for name in ("user_filter", "group_filter"):
        _check_filter(name, getattr(options, name))
    for name in ("suffix", "user_tree_dn", "group_tree_dn", "user_enabled_emulation_dn", "user"):
        _check_dn(name, getattr(options, name))
    if options.chase_referrals:
        raise Invalid("ldap.chase_referrals: referrals to other servers are not followed.")
    if options.user_enabled_mask and not options.user_enabled_default.lstrip("-").isdigit():
        raise Invalid("ldap.user_enabled_default has to be a whole number where ldap.user_enabled_mask is set.")
    _check_attributes(options)
    _check_authorities(options)


def _check_url(url: str, options: Ldap) -> None:
    try:
        parts = urlsplit(url)
        fine = bool(parts.scheme and parts.hostname) and parts.port != 0  # what is no LDAP is found out when it is asked
    except ValueError:
        fine = False
    if not fine or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise Invalid("ldap.url: expecting ldap://host[:port] or ldaps://host[:port], several separated by commas.")
    if "@" in parts.netloc:
        raise Invalid("ldap.url holds no user and password: they are the options ldap.user and ldap.password.")
    if options.use_tls and parts.scheme == "ldaps":
        raise Invalid("ldap.use_tls is for ldap:// URLs: ldaps:// is TLS from the beginning.")


def _check_filter(name: str, text: str | None) -> None:
    if not text:
        return
    try:
        parse_filter(text, None, auto_escape=False, auto_encode=False, validator=None, check_names=False)
    except (LDAPException, IndexError, ValueError):
        raise Invalid(f"ldap.{name} is no LDAP filter in parentheses.") from None


def _check_dn(name: str, text: str | None) -> None:
    if text is None or (name == "user" and "=" not in text):  # Active Directory takes other names of users, too
        return
    try:
        entries.parts_of(text)
    except ValueError:
        raise Invalid(f"ldap.{name} is no distinguished name.") from None


def _check_attributes(options: Ldap) -> None:
    mapped = entries.mapping(options.user_additional_attribute_mapping)
    of_groups = entries.mapping(options.group_additional_attribute_mapping)
    read = [(name, getattr(options, name)) for name in Ldap.__struct_fields__ if name.endswith("_attribute")]
    read += [("user_additional_attribute_mapping", attribute) for attribute, _name in mapped]
    read += [("group_additional_attribute_mapping", attribute) for attribute, _name in of_groups]
    secret = _SECRET | {options.user_pass_attribute.lower()}
    for option, attribute in read:
        if option != "user_pass_attribute" and (attribute or "").partition(";")[0].lower() in secret:
            raise Invalid(f"ldap.{option}: passwords are not shown.")
    for option, given, known in (
        ("user_attribute_ignore", options.user_attribute_ignore, _IGNORABLE | {name for _, name in mapped}),
        ("group_attribute_ignore", options.group_attribute_ignore, {"description"} | {name for _, name in of_groups}),
    ):
        unknown = sorted(set(given) - known)
        if unknown:
            raise Invalid(f"ldap.{option}: {', '.join(unknown)} would be shown by no option.")


def _check_authorities(options: Ldap) -> None:
    if options.tls_cacertfile:
        try:
            ssl.create_default_context(cafile=options.tls_cacertfile)
        except (OSError, ValueError):
            raise Invalid("ldap.tls_cacertfile is no file with certificates (PEM) on this controller.") from None
    if options.tls_cacertdir and not os.path.isdir(options.tls_cacertdir):  # noqa: PTH112 - a question, not a path to go on with
        raise Invalid("ldap.tls_cacertdir is no folder on this controller.")


class LdapDirectory:
    """One directory. Every connection is one of its pools."""

    def __init__(self, options: Ldap) -> None:
        self._options = options
        self._persons, self._teams = entries.people_of(options), entries.teams_of(options)
        opener, circuit = Opener(options), Circuit(options.url)
        self._pool = Pool(
            opener.bound,
            circuit,
            options.pool_size if options.use_pool else 1000,
            options.pool_connection_lifetime if options.use_pool else 0,
            options.pool_connection_timeout,
        )
        self._logins = Pool(
            opener.unbound,
            circuit,
            options.auth_pool_size if options.use_auth_pool else 1000,
            options.auth_pool_connection_lifetime if options.use_auth_pool else 0,
            options.connection_timeout,
        )

    def people(self, wanted: Wanted) -> Iterator[Person]:
        found = self._wanted(self._persons, wanted)
        if not self._options.user_enabled_emulation:
            for entry in found:
                yield from self._person(entry, None)
            return
        once = list(found)
        enabled = self._enabled(once)
        for entry in once:
            yield from self._person(entry, enabled=entries.key_of(entry.dn) in enabled)

    def teams(self, wanted: Wanted) -> Iterator[Team]:
        for entry in self._wanted(self._teams, wanted):
            found = entries.team(self._teams, entry)
            if found is not None:
                yield found

    def teams_of(self, people: Sequence[Person]) -> dict[str, list[Team]]:
        if len(people) > _FEW:
            return self._teams_of_many(people)
        found: dict[str, list[Team]] = {}
        for person in people:
            above: dict[Key, Team] = {}
            wanted = [self._member_value(person)]
            for _level in range(_DEPTH if self._nested else 1):
                above_them = [team for team in self._with_members(wanted) if entries.key_of(team.handle) not in above]
                if not above_them:
                    break
                above |= {entries.key_of(team.handle): team for team in above_them}
                wanted = [team.handle for team in above_them]
            found[person.local_id] = list(above.values())
        return found

    def members_of(self, team: Team) -> list[Person]:
        options = self._options
        waiting, seen, members = [team.handle], {entries.key_of(team.handle)}, dict[Key, str]()
        while waiting:
            below = [name for handle in waiting for name in self._member_names(handle)]
            if options.group_members_are_ids:
                return list(self.people(Wanted(ids=tuple(dict.fromkeys(below))))) if below else []
            members |= {entries.key_of(name): name for name in below}
            waiting = []
            if self._nested:
                inner = self._called(self._teams, [name for name in below if entries.key_of(name) not in seen])
                waiting = [entry.dn for entry in inner]
                seen |= {entries.key_of(name) for name in waiting}
        found = list(self._called(self._persons, list(members.values())))
        enabled = self._enabled(found) if options.user_enabled_emulation else set[Key]()
        return [
            person
            for entry in found
            for person in self._person(
                entry, entries.key_of(entry.dn) in enabled if options.user_enabled_emulation else None
            )
        ]

    def proves(self, person: Person | None, password: str) -> bool:
        if not password or "\0" in password:
            return False  # to a server a bind without a password is one of nobody, which succeeds
        handle = person.handle if person is not None else f"{self._persons.id_attribute}={ids.new_id()},{self._persons.tree}"
        with self._logins.connection() as link:
            link.rebind(user=handle, password=password.encode("utf-8", "surrogatepass"), read_server_info=False)
            link.password = None
            code = link.result["result"]
            said = f"{link.result['description']} {link.result['message']}".strip()
        if code != 0 and code not in _REFUSALS:
            raise DirectoryUnavailable(f"a user cannot be bound: {said}")
        return code == 0 and person is not None

    def close(self) -> None:
        self._pool.close()
        self._logins.close()

    @property
    def _nested(self) -> bool:
        return self._options.group_ad_nesting and not self._options.group_members_are_ids

    def _member_value(self, person: Person) -> str:
        return person.local_id if self._options.group_members_are_ids else person.handle

    def _person(self, entry: Entry, enabled: bool | None) -> Iterator[Person]:
        found = entries.person(self._options, self._persons, entry, enabled)
        if found is not None:
            yield found

    def _wanted(self, kind: Kind, wanted: Wanted) -> Iterator[Entry]:
        """Entries by ids are asked for in parts; a name that only the directory finds equal is passed over where it counts."""
        parts = [wanted]
        if wanted.ids is not None:
            starts = range(0, len(wanted.ids), _TOGETHER)
            parts = [Wanted(wanted.ids[start : start + _TOGETHER], wanted.names) for start in starts]
        for part in parts:
            text = entries.matching(kind, *entries.conditions(kind, part))
            for entry in self._search(kind, text):
                _id, name = entries.identity(kind, entry)
                if all(named.fits(name or "") for named in wanted.names):
                    yield entry

    def _called(self, kind: Kind, names: Sequence[str]) -> Iterator[Entry]:
        """The entries of this kind that have one of these distinguished names."""
        wanted = {entries.key_of(name): entries.relative_name(name) for name in names}
        conditions = sorted({text for text in wanted.values() if text is not None})
        for start in range(0, len(conditions), _TOGETHER):
            text = entries.matching(kind, entries.any_of(conditions[start : start + _TOGETHER]))
            yield from (entry for entry in self._search(kind, text) if entries.key_of(entry.dn) in wanted)

    def _with_members(self, values: Sequence[str]) -> Iterator[Team]:
        attribute = self._options.group_member_attribute
        for start in range(0, len(values), _TOGETHER):
            part = values[start : start + _TOGETHER]
            text = entries.matching(
                self._teams, entries.any_of(f"({attribute}={entries.escaped(value)})" for value in part)
            )
            for entry in self._search(self._teams, text):
                found = entries.team(self._teams, entry)
                if found is not None:
                    yield found

    def _teams_of_many(self, people: Sequence[Person]) -> dict[str, list[Team]]:
        """All groups are read once, with their members."""
        options = self._options
        teams: dict[Key, Team] = {}
        groups_of: dict[Key, list[Key]] = {}
        for entry in self._search(self._teams, entries.matching(self._teams), options.group_member_attribute):
            found = entries.team(self._teams, entry)
            if found is None:
                continue
            key = entries.key_of(entry.dn)
            teams[key] = found
            for name in entry.texts(options.group_member_attribute):
                groups_of.setdefault(name if options.group_members_are_ids else entries.key_of(name), []).append(key)
        result: dict[str, list[Team]] = {}
        for person in people:
            value = self._member_value(person)
            above: dict[Key, None] = {}
            waiting: list[Key] = [value if options.group_members_are_ids else entries.key_of(value)]
            while waiting:
                for key in groups_of.get(waiting.pop(), ()):
                    if key not in above:
                        above[key] = None
                        waiting += [key] if self._nested else []
            result[person.local_id] = [teams[key] for key in above]
        return result

    def _member_names(self, handle: str) -> list[str]:
        attribute = self._options.group_member_attribute
        found = self._read(handle, f"(objectClass={entries.escaped(self._teams.objectclass)})", attribute)
        return found.texts(attribute) if found is not None else []

    def _enabled(self, found: Sequence[Entry]) -> set[Key]:
        """Who of these is in the group of the enabled ones."""
        options = self._options
        of_groups = options.user_enabled_emulation_use_group_config
        attribute = options.group_member_attribute if of_groups else "member"
        objectclass = self._teams.objectclass if of_groups else "groupOfNames"
        group = options.user_enabled_emulation_dn or f"cn=enabled_users,{self._persons.tree}"
        entry = self._read(group, f"(objectClass={entries.escaped(objectclass)})", attribute)
        members = entry.texts(attribute) if entry is not None else []
        if of_groups and options.group_members_are_ids:
            known = set(members)
            return {entries.key_of(one.dn) for one in found if entries.identity(self._persons, one)[0] in known}
        return {entries.key_of(name) for name in members}

    def _read(self, name: str, text: str, attribute: str) -> Entry | None:
        """One attribute of one entry."""
        with self._pool.connection() as link:
            link.search(name, text, ldap3.BASE, attributes=[attribute])
            if link.result["result"] == _NO_SUCH_OBJECT:
                return None
            _demand_success(link, name)
            return next(iter(_entries(link)), None)

    def _search(self, kind: Kind, text: str, *further: str) -> Iterator[Entry]:
        """Every entry that fits, page by page."""
        options = self._options
        attributes = {kind.id_attribute, kind.name_attribute, *further, *(attribute for attribute, _ in kind.extra)}
        if kind is self._persons:
            attributes |= {options.user_enabled_attribute, options.user_default_project_id_attribute or kind.id_attribute}
        scope = ldap3.SUBTREE if options.query_scope == "sub" else ldap3.LEVEL
        cookie: bytes | None = None
        with self._pool.connection() as link:
            while True:
                link.search(
                    kind.tree,
                    text,
                    scope,
                    dereference_aliases=references(options),
                    attributes=sorted(attributes),
                    paged_size=options.page_size or None,
                    paged_cookie=cookie,
                )
                _demand_success(link, kind.tree)
                cookie = _cookie(link) if options.page_size else None
                yield from _entries(link)
                if not cookie:
                    return


def _entries(link: ldap3.Connection) -> Iterator[Entry]:
    """What was found; references to other servers are passed over."""
    for found in list(link.response or ()):
        if found.get("type") == "searchResEntry":
            values = {name.partition(";")[0].lower(): raw for name, raw in found["raw_attributes"].items() if raw}
            yield Entry(found["dn"], values)


def _demand_success(link: ldap3.Connection, base: str) -> None:
    code = link.result["result"]
    if code == _SIZE_LIMIT:
        raise DirectoryLimit
    if code != 0:
        said = f"{link.result['description']} {link.result['message']}".strip()
        raise DirectoryUnavailable(f"{base} cannot be searched: {said}")


def _cookie(link: ldap3.Connection) -> bytes | None:
    control = (link.result.get("controls") or {}).get("1.2.840.113556.1.4.319")
    return control["value"]["cookie"] or None if control else None
