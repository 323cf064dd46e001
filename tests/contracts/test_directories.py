"""What every directory must do: the same tests for slapd and for the one in memory."""

from __future__ import annotations

import pytest

from pileus.identity.drivers import fake, ldap
from pileus.identity.errors import DirectoryLimit, DirectoryUnavailable
from pileus.identity.wire import Ldap, Named, Wanted
from tests.directories import ADMIN, GROUPS, PEOPLE, SECRET, SUFFIX, Slapd


class InMemory:
    """The fake, filled as the real one is."""

    def __init__(self) -> None:
        self.url = "fake://contract"
        fake._contents.pop(self.url, None)
        self.content = fake.content(self.url)

    def person(self, uid, password, **fields):
        self.content.add_person(uid, password, **fields)
        return f"user/{uid}"

    def group(self, name, *members):
        self.content.add_team(name, *members)
        return f"group/{name}"

    def open(self, **options):
        return fake.open_directory(Ldap(url=self.url, **options))

    def limit(self, most):
        self.content.limit = most

    def kill(self):
        self.content.dead = True

    def start(self):
        self.content.dead = False

    def close(self):
        pass


class Real:
    """slapd."""

    def __init__(self) -> None:
        self.server = Slapd()
        self.server.add(ADMIN, "organizationalRole", "simpleSecurityObject", cn="admin", userPassword=SECRET)

    def person(self, uid, password, name=None, enabled=True, extra=None):
        more = {"mail": extra["email"]} if extra else {}
        return self.server.add_person(uid, password, sn=name or uid, enabled=str(enabled).upper(), **more)

    def group(self, name, *members):
        return self.server.add_group(name, *members)

    def open(self, **options):
        return ldap.open_directory(
            Ldap(
                url=self.server.url, user=ADMIN, password=SECRET, user_tree_dn=PEOPLE, group_tree_dn=GROUPS,
                user_id_attribute="uid", pool_connection_timeout=2, pool_retry_delay=0.0, **options,
            )
        )  # fmt: skip

    def limit(self, most):
        self.server.kill()
        self.server.size_limit = most
        self.server.start()

    def kill(self):
        self.server.kill()

    def start(self):
        self.server.start()

    def close(self):
        self.server.close()


@pytest.fixture(params=["slapd", "fake"])
def place(request):
    made = Real() if request.param == "slapd" else InMemory()
    yield made
    made.close()


def names(entries):
    return sorted(entry.name for entry in entries)


def test_entries_are_found_by_id_and_by_name(place):
    place.person("alice", "secret", name="Älice Ünlü", extra={"email": "alice@example.org"})
    place.person("bob", "secret", enabled=False)
    place.group("staff", place.person("carol", "secret", name="Carol (x=*)\\,"))
    directory = place.open()
    assert names(directory.people(Wanted())) == ["Carol (x=*)\\,", "bob", "Älice Ünlü"]
    (alice,) = directory.people(Wanted(ids=("alice", "nobody")))
    assert (alice.local_id, alice.name, alice.enabled, alice.extra["email"]) == ("alice", "Älice Ünlü", True, "alice@example.org")
    assert [one.local_id for one in directory.people(Wanted(names=(Named("älice ünlü"),)))] == ["alice"], "case does not count"
    assert [one.local_id for one in directory.people(Wanted(names=(Named("Carol (x=*)\\,"),)))] == ["carol"]
    (bob,) = directory.people(Wanted(ids=["bob"]))
    assert not bob.enabled
    assert names(directory.teams(Wanted())) == ["staff"]
    assert list(directory.teams(Wanted(ids=("alice",)))) == []
    assert list(directory.people(Wanted(ids=()))) == []


@pytest.mark.parametrize(
    ("comparator", "value", "found"),
    [
        ("contains", "li", ["alice", "oliver"]),
        ("contains", "LI", []),
        ("icontains", "LI", ["alice", "oliver"]),
        ("startswith", "al", ["alice"]),
        ("istartswith", "AL", ["alice"]),
        ("endswith", "er", ["oliver"]),
        ("iendswith", "ER", ["oliver"]),
        ("equals", "Alice", []),
        ("iequals", "Alice", ["alice"]),
        ("contains", "*", []),
    ],
)
def test_inexact_filters_on_names(places, comparator, value, found):
    for place in places:
        assert names(place.open().people(Wanted(names=(Named(value, comparator),)))) == found, place


@pytest.fixture(scope="module")
def places():
    both = [Real(), InMemory()]
    for place in both:
        for name in ("alice", "bob", "oliver"):
            place.person(name, "secret")
    yield both
    for place in both:
        place.close()


@pytest.mark.parametrize("value", ["*", "alice)(uid=*", "a*", "\\2a", "alice\x00", ")(|(uid=*", "uid=alice"])
def test_whatever_a_name_is_it_is_no_filter(places, value):
    for place in places:
        directory = place.open()
        assert list(directory.people(Wanted(names=(Named(value),)))) == []
        assert list(directory.people(Wanted(ids=(value,)))) == []


def test_a_password_proves_its_user_and_nobody_else(places):
    for place in places:
        directory = place.open()
        (alice,) = directory.people(Wanted(ids=("alice",)))
        assert directory.proves(alice, "secret")
        for wrong in ("Secret", "secret ", "", "\0", "s" * 3000):
            assert not directory.proves(alice, wrong), wrong
        assert not directory.proves(None, "secret")
        assert directory.proves(alice, "secret"), "on a connection that was refused before"


def test_passwords_may_be_of_any_letters(place):
    place.person("zoë", "pässwörd ✓ \\ )(")
    (who,) = place.open().people(Wanted(ids=("zoë",)))
    assert place.open().proves(who, "pässwörd ✓ \\ )(")
    assert not place.open().proves(who, "passwort")


def test_groups_of_users_and_users_of_groups(place):
    alice, bob = place.person("alice", "s"), place.person("bob", "s")
    inner = place.group("inner", alice)
    outer = place.group("outer", inner, bob)
    place.group("above", outer)
    place.group("other")
    for nested in (False, True):
        directory = place.open(group_ad_nesting=nested)
        people = {one.local_id: one for one in directory.people(Wanted())}
        teams = {one.name: one for one in directory.teams(Wanted())}
        expected = {"alice": ["above", "inner", "outer"], "bob": ["above", "outer"]} if nested else {"alice": ["inner"], "bob": ["outer"]}
        for asked in ([people["alice"]], list(people.values()), list(people.values()) * 3):
            found = directory.teams_of(asked)
            assert {one.local_id: names(found[one.local_id]) for one in asked} == {one.local_id: expected[one.local_id] for one in asked}
        members = {name: names(directory.members_of(team)) for name, team in teams.items()}
        assert members == {
            "inner": ["alice"],
            "outer": ["alice", "bob"] if nested else ["bob"],
            "above": ["alice", "bob"] if nested else [],
            "other": [],
        }


def test_groups_that_contain_each_other_come_to_an_end(place):
    alice = place.person("alice", "s")
    one = place.group("one", alice, "cn=two," + GROUPS if isinstance(place, Real) else "group/two")
    place.group("two", one)
    directory = place.open(group_ad_nesting=True)
    (who,) = directory.people(Wanted())
    assert names(directory.teams_of([who])["alice"]) == ["one", "two"]
    assert names(directory.teams_of([who] * 5)["alice"]) == ["one", "two"]
    for team in directory.teams(Wanted()):
        assert names(directory.members_of(team)) == ["alice"]


def test_more_entries_than_are_given_at_once_are_an_error_or_pages(place):
    for number in range(12):
        place.person(f"u{number:02}", "s")
    place.limit(10)
    with pytest.raises(DirectoryLimit):
        list(place.open().people(Wanted()))
    assert len(list(place.open(page_size=5).people(Wanted()))) == 12
    assert len(list(place.open().people(Wanted(ids=("u01", "u11"))))) == 2


def test_a_directory_that_is_dead_says_so_and_comes_back(place, monkeypatch):
    monkeypatch.setattr("pileus.identity.drivers.ldap_links._PAUSE", 0.0)
    place.person("alice", "s")
    directory = place.open()
    (alice,) = directory.people(Wanted())
    assert directory.proves(alice, "s")
    place.kill()
    for question in (
        lambda: list(directory.people(Wanted())),
        lambda: list(directory.teams(Wanted())),
        lambda: directory.teams_of([alice]),
        lambda: directory.proves(alice, "s"),
    ):
        with pytest.raises(DirectoryUnavailable):
            question()
    place.start()
    assert directory.proves(alice, "s")
    assert names(directory.people(Wanted())) == ["alice"]
    directory.close()
