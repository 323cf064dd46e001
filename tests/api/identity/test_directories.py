"""Domains whose users and groups are in a directory: it is the truth, rows stand for what identity has met of it."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import threading
from functools import partial

import pytest

from pileus.identity.drivers import fake
from pileus.identity.logic import directories, shadows
from pileus.kernel import clock
from pileus.kernel.slots import Slots, login_threads
from tests.api.identity.federated import federate, login
from tests.api.identity.test_races import at_once, statuses
from tests.api.identity.world import Identity, message, roles_of

URL = "fake://directory"


class World(Identity):
    """Identity with a domain whose directory is in memory."""

    def __init__(self, **options):
        super().__init__(**options)
        fake._contents.pop(URL, None)
        self.directory = fake.content(URL)
        self.domain = self.make("domain", name="acme")["id"]
        self.project = self.make("project", name="web", domain_id=self.domain)["id"]
        self.configure({"identity": {"driver": "ldap"}, "ldap": {"url": URL, "group_ad_nesting": True}})

    def configure(self, config):
        self("PUT", f"/domains/{self.domain}/config", {"config": config})

    def id_of(self, local_id, kind="user"):
        return hashlib.sha256(f"{self.domain}{kind}{local_id}".encode()).hexdigest()

    def enter(self, name, password="secret", scope=None):
        return self.login(name, password, scope, domain=self.domain)

    def scoped(self, name="alice"):
        answer = self.enter(name, scope={"project": {"id": self.project}})
        assert answer.status == 201, answer.text
        return answer.headers["x-subject-token"]

    def alive(self, token):
        return self.validate(token).status == 200

    def compare(self):
        """What the loop does when its time has come."""
        self.service_state().compared.clear()
        shadows.compare(self.service)

    def service_state(self):
        from pileus.identity.logic import state

        return state.of(self.service)

    def replace(self, local_id, **fields):
        self.directory.people[local_id] = dataclasses.replace(self.directory.people[local_id], **fields)


@pytest.fixture(autouse=True)
def in_memory(monkeypatch):
    monkeypatch.setattr(directories, "DRIVER", "pileus.identity.drivers.fake")


@pytest.fixture
def world(tmp_path):
    made = World(home=tmp_path)
    yield made
    made.client.close()


# Login


def test_a_user_of_the_directory_gets_a_token(world):
    world.directory.add_person("alice", "secret", name="Alice Ünlü", extra={"email": "alice@example.org"})
    answer = world.enter("Alice Ünlü")
    assert answer.status == 201, answer.text
    assert answer.json["token"]["user"] == {
        "id": world.id_of("alice"),
        "name": "Alice Ünlü",
        "domain": {"id": world.domain, "name": "acme"},
        "password_expires_at": None,
    }
    assert world.enter("alice ünlü").json["token"]["user"]["name"] == "Alice Ünlü", "as the directory compares"
    who = {"id": world.id_of("alice"), "password": "secret"}
    by_id = world("POST", "/auth/tokens", {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}}}, token=None)
    assert by_id.json["token"]["user"]["id"] == world.id_of("alice")
    named = {"name": "Alice Ünlü", "domain": {"name": "acme"}, "password": "secret"}
    assert world("POST", "/auth/tokens", {"auth": {"identity": {"methods": ["password"], "password": {"user": named}}}}, token=None).status == 201


def test_every_refusal_sounds_the_same(world):
    world.directory.add_person("alice", "secret")
    world.directory.add_person("off", "secret", enabled=False)
    world.directory.add_person("one", "secret", name="twin")
    world.directory.add_person("two", "secret", name="twin")
    world.enter("alice")
    unknown = world.login("nobody", "secret")
    for name, password in (("alice", "wrong"), ("alice", ""), ("nobody", "secret"), ("off", "secret"), ("twin", "secret"), ("", "secret"), ("*", "secret")):
        refused = world.enter(name, password)
        assert (refused.status, refused.json) == (401, unknown.json), (name, password)
    who = {"id": world.id_of("nobody"), "password": "secret"}
    assert world("POST", "/auth/tokens", {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}}}, token=None).status == 401
    world("PATCH", f"/domains/{world.domain}", {"domain": {"enabled": False}}, ok=200)
    assert world.enter("alice").json == unknown.json


def test_the_directory_is_asked_as_often_for_a_stranger(world):
    world.directory.add_person("alice", "secret")
    world.enter("alice")
    counts = []
    for name in ("alice", "nobody"):
        before = world.directory.asked
        with world.client.count_queries() as queries:
            assert world.enter(name, "wrong").status == 401
        counts.append((world.directory.asked - before, len(queries)))
    assert counts[0] == counts[1], "of the directory and of the database"


def test_an_empty_password_never_reaches_the_directory(world):
    world.directory.add_person("alice", "")
    before = world.directory.asked
    assert world.enter("alice", "").status == 401
    assert world.directory.asked == before


def test_roles_come_by_the_user_and_by_groups_in_groups(database_url):
    world = World(db_url=database_url)
    alice = world.directory.add_person("alice", "secret")
    inner = world.directory.add_team("inner", alice.handle)
    world.directory.add_team("outer", inner.handle)
    assert world.enter("alice").status == 201
    world.grant("reader", user=world.id_of("alice"), project=world.project)
    assert roles_of(world.enter("alice", scope={"project": {"id": world.project}})) == {"reader"}
    world.grant("member", group=world.id_of("outer", "group"), project=world.project)
    token = world.scoped()
    assert roles_of(world.validate(token)) == {"reader", "member"}
    assert {one["name"] for one in world("GET", f"/users/{world.id_of('alice')}/groups").json["groups"]} == {"inner", "outer"}
    assert world("HEAD", f"/groups/{world.id_of('outer', 'group')}/users/{world.id_of('alice')}").status == 204

    world.directory.members[inner.handle] = set()
    world.compare()
    assert roles_of(world.validate(token)) == {"reader"}, "the role of the group is gone from the token at once"
    assert world("HEAD", f"/groups/{world.id_of('outer', 'group')}/users/{world.id_of('alice')}").status == 404

    world.directory.members[inner.handle] = {alice.handle}
    world.scoped()
    assert roles_of(world.validate(token)) == {"reader", "member"}, "a login looks too"
    world.replace("alice", enabled=False)
    world.compare()
    assert not world.alive(token)
    assert world.enter("alice").status == 401
    world.replace("alice", enabled=True)
    assert not world.alive(token), "older tokens do not come back"
    assert world.alive(world.scoped())
    world.client.close()


def test_everything_else_of_such_a_user_is_ordinary(world):
    world.directory.add_person("alice", "secret")
    world.enter("alice")
    world.grant("member", user=world.id_of("alice"), project=world.project)
    token = world.scoped()
    made = world("POST", f"/users/{world.id_of('alice')}/application_credentials", {"application_credential": {"name": "ci"}}, token=token)
    assert made.status == 201, made.text
    credential = made.json["application_credential"]
    identity = {"methods": ["application_credential"], "application_credential": {"id": credential["id"], "secret": credential["secret"]}}
    world.directory.dead = True
    answer = world("POST", "/auth/tokens", {"auth": {"identity": identity}}, token=None)
    assert answer.status == 201, "no directory is needed for it"
    by_credential = answer.headers["x-subject-token"]
    world.directory.dead = False
    del world.directory.people["alice"]
    world.compare()
    assert not world.alive(by_credential)
    assert world("POST", "/auth/tokens", {"auth": {"identity": identity}}, token=None).status == 401


# A directory that is dead


def test_a_dead_directory_takes_nothing_away(world, caplog):
    alice = world.directory.add_person("alice", "secret")
    world.directory.add_team("staff", alice.handle)
    world.enter("alice")
    world.grant("member", group=world.id_of("staff", "group"), project=world.project)
    token = world.scoped()
    world.directory.dead = True
    refused = world.enter("alice")
    assert (refused.status, message(refused)) == (503, "The directory of this domain does not answer now: its users cannot be looked up.")
    assert refused.headers["retry-after"] == "5"
    world.compare()
    assert roles_of(world.validate(token)) == {"member", "reader"}
    assert "it is dead" in caplog.text, "the reason is in the log"
    assert world("GET", f"/users/{world.id_of('alice')}").json["user"]["name"] == "alice", "what is known of one is shown"
    assert [one["name"] for one in world("GET", f"/groups/{world.id_of('staff', 'group')}/users").json["users"]] == ["alice"]
    assert [one["name"] for one in world("GET", f"/users/{world.id_of('alice')}/groups").json["groups"]] == ["staff"]
    assert world("GET", f"/users?domain_id={world.domain}").status == 503
    assert world("GET", f"/groups?domain_id={world.domain}").status == 503
    assert world.id_of("alice") in {one["id"] for one in world("GET", "/users", ok=200).json["users"]}
    assert world.login("admin", "admin-secret").status == 201, "other domains go on"
    world.directory.dead = False
    assert world.enter("alice").status == 201


def test_a_slow_directory_never_has_all_threads(world):
    world.directory.add_person("alice", "secret")
    world.enter("alice")
    state = world.service_state()
    state.directory_logins, state.directory_requests = Slots(2, patience=0), Slots(1, patience=0)
    directories.close(world.service, world.domain)  # opened again with these
    arrived, held = threading.Semaphore(0), threading.Event()
    world.directory.slow = lambda: (arrived.release(), held.wait())
    shown = f"/users?domain_id={world.domain}"
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        try:
            under_way = [pool.submit(world.enter, "alice") for _ in range(2)] + [pool.submit(world, "GET", shown)]
            assert all(arrived.acquire(timeout=60) for _ in range(3))
            refused = world.enter("alice")
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
            assert world("GET", shown).status == 503
            assert world("GET", f"/users/{world.id_of('alice')}").json["user"]["name"] == "alice", "what is known of one is shown"
            assert not arrived.acquire(blocking=False)
            assert world.login("admin", "admin-secret").status == 201, "those who need no directory notice nothing"
        finally:
            held.set()
        assert [one.result().status for one in under_way] == [201, 201, 200]
    assert world.enter("alice").status == 201
    assert world("GET", shown).status == 200


def test_questions_to_directories_take_half_of_the_threads_at_most(world):
    state = world.service_state()
    for slots, threads in ((state.directory_logins, login_threads()), (state.directory_requests, world.service.config.api.threads)):
        assert 1 <= slots.size <= threads / 2


def test_half_an_answer_takes_nothing_away(world):
    for number in range(5):
        world.directory.add_person(f"u{number}", "secret")
        world.enter(f"u{number}")
    token = world.enter("u4").headers["x-subject-token"]
    world.directory.limit = 3
    world.compare()
    assert world.alive(token)
    refused = world("GET", f"/users?domain_id={world.domain}")
    assert refused.status == 403
    assert "page_size" in message(refused)


# Those who are gone


def test_who_is_gone_is_disabled_and_finds_everything_as_it_was(world):
    alice = world.directory.add_person("alice", "secret")
    staff = world.directory.add_team("staff", alice.handle)
    world.enter("alice")
    world.grant("reader", user=world.id_of("alice"), project=world.project)
    world.grant("member", group=world.id_of("staff", "group"), project=world.project)
    token = world.scoped()
    del world.directory.people["alice"], world.directory.teams["staff"]
    world.compare()
    assert not world.alive(token)
    assert world("GET", f"/users/{world.id_of('alice')}").status == 404
    assert world("GET", f"/groups/{world.id_of('staff', 'group')}").status == 404
    left = {one["id"]: one["enabled"] for one in world("GET", "/users").json["users"]}
    assert left[world.id_of("alice")] is False
    world.directory.people["alice"], world.directory.teams["staff"] = alice, staff
    assert roles_of(world.enter("alice", scope={"project": {"id": world.project}})) == {"reader", "member"}


def test_looking_at_somebody_who_is_gone_ends_the_tokens_too(world):
    world.directory.add_person("alice", "secret")
    world.enter("alice")
    world.grant("member", user=world.id_of("alice"), project=world.project)
    token = world.scoped()
    del world.directory.people["alice"]
    assert world.alive(token)
    assert world("GET", f"/users/{world.id_of('alice')}").status == 404
    assert not world.alive(token)


@pytest.mark.parametrize("how", ["disabled", "gone", "renamed and disabled", "disabled, and no password is taken"])
@pytest.mark.parametrize("by", ["name", "id"])
def test_a_login_of_somebody_disabled_or_gone_ends_the_tokens_too(world, how, by):
    world.directory.add_person("alice", "secret")
    world.enter("alice")
    world.grant("member", user=world.id_of("alice"), project=world.project)
    token = world.scoped()
    if how == "gone":
        del world.directory.people["alice"]
    else:
        world.replace("alice", enabled=False, name="smith" if "renamed" in how else "alice")
        world.directory.passwords["alice"] = "" if "no password" in how else "secret"
    assert world.alive(token)
    who = {"name": "alice", "domain": {"id": world.domain}} if by == "name" else {"id": world.id_of("alice")}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": {**who, "password": "secret"}}}}}
    refused = world("POST", "/auth/tokens", body, token=None)
    assert (refused.status, refused.json) == (401, world.login("nobody", "secret").json)
    assert not world.alive(token)
    assert world("GET", f"/users?name={'smith' if 'renamed' in how else 'alice'}").json["users"][0]["enabled"] is False
    with world.client.count_queries() as queries:
        world("POST", "/auth/tokens", body, token=None)
    assert not [one for one in queries if not one.startswith(("SELECT", "WITH"))], "it is written once"


def test_only_what_is_left_of_somebody_can_be_deleted(world):
    alice = world.directory.add_person("alice", "secret")
    world.directory.add_team("staff", alice.handle)
    world.enter("alice")
    world.grant("member", user=world.id_of("alice"), project=world.project)
    user, group = f"/users/{world.id_of('alice')}", f"/groups/{world.id_of('staff', 'group')}"
    assert world("DELETE", user).status == 403
    assert world("DELETE", group).status == 403
    del world.directory.people["alice"], world.directory.teams["staff"]
    world.compare()
    assert world("DELETE", user).status == 204
    assert world("DELETE", group).status == 204
    assert world("GET", f"/role_assignments?user.id={world.id_of('alice')}").json["role_assignments"] == []
    world.directory.people["alice"] = alice
    assert world.enter("alice").status == 201, "a new one by the same name starts with nothing"
    assert world("GET", f"/role_assignments?user.id={world.id_of('alice')}").json["role_assignments"] == []


def test_a_name_goes_to_whoever_the_directory_gives_it(world):
    world.directory.add_person("u1", "first", name="alice")
    world.enter("alice", "first")
    del world.directory.people["u1"]
    world.directory.add_person("u2", "second", name="alice")
    answer = world.enter("alice", "second")
    assert (answer.json["token"]["user"]["id"], answer.json["token"]["user"]["name"]) == (world.id_of("u2"), "alice")
    assert world.enter("alice", "first").status == 401
    world.directory.add_person("u1", "first", name="bob")
    assert world.enter("bob", "first").json["token"]["user"]["id"] == world.id_of("u1")
    # two that change their names with each other
    world.replace("u1", name="alice")
    world.replace("u2", name="bob")
    listed = {one["id"]: one["name"] for one in world("GET", f"/users?domain_id={world.domain}").json["users"]}
    assert listed == {world.id_of("u1"): "alice", world.id_of("u2"): "bob"}
    known = {one["id"]: one["name"] for one in world("GET", "/users").json["users"]}
    assert known.items() >= listed.items()


def test_a_name_that_is_taken_over_is_gone_from_tokens_at_once(world):
    world.directory.add_person("u1", "first", name="alice")
    token = world.enter("alice", "first").headers["x-subject-token"]
    assert world.validate(token).json["token"]["user"]["name"] == "alice"
    world.replace("u1", name="former alice")
    world.directory.add_person("u2", "second", name="alice")
    assert world.enter("alice", "second").status == 201
    assert world.validate(token).json["token"]["user"]["name"] == world.id_of("u1"), "until the directory is asked about it"
    world.compare()
    assert world.validate(token).json["token"]["user"]["name"] == "former alice"


def test_the_name_of_somebody_who_is_not_of_the_directory_is_left_alone(world):
    federate(world, domain_id=world.domain)
    guest = login(world).json["token"]["user"]
    assert guest["name"] == "alice"
    world.directory.add_person("alice", "secret")
    world.directory.add_person("bob", "secret")
    for _again in range(2):
        answer = world.enter("alice")
        assert answer.json["token"]["user"]["name"] == world.id_of("alice")
        assert world("GET", f"/users/{guest['id']}").json["user"]["name"] == "alice"
    with world.client.count_queries() as queries:
        assert world.enter("alice").status == 201
    assert not [one for one in queries if not one.startswith(("SELECT", "WITH"))], "it stays so"
    world("DELETE", f"/users/{guest['id']}", ok=204)
    assert world.enter("alice").json["token"]["user"]["name"] == "alice"
    assert login(world).json["token"]["user"]["name"] == "alice@idp", "who comes later gives way"


def test_odd_entries_spoil_nothing(world):
    world.directory.add_person("long" * 70, "secret", name="too long an id")
    world.directory.add_person("ok", "secret", name="n" * 300)
    world.directory.add_team("group", name="g" * 100)
    listed = world("GET", f"/users?domain_id={world.domain}", ok=200).json["users"]
    assert [one["id"] for one in listed] == [world.id_of("ok")]
    assert world.enter("too long an id").status == 401
    assert world.enter("n" * 300).status == 201
    assert [one["name"] for one in world("GET", f"/groups?domain_id={world.domain}", ok=200).json["groups"]] == ["g" * 100]


# Lists


def test_lists_of_the_domain_are_those_of_the_directory(world):
    people = [world.directory.add_person(f"u{number}", "secret", enabled=number != 3, extra={"email": f"{number}@x"}) for number in range(5)]
    team = world.directory.add_team("staff", people[0].handle, description="people")
    path = f"/users?domain_id={world.domain}"
    listed = world("GET", path, ok=200).json["users"]
    assert [one["id"] for one in listed] == sorted(world.id_of(f"u{number}") for number in range(5))
    assert {one["name"]: (one["enabled"], one["email"]) for one in listed}["u3"] == (False, "3@x")
    assert set(listed[0]) == {"id", "name", "domain_id", "enabled", "options", "password_expires_at", "links", "email"}
    one = world("GET", f"/users/{listed[0]['id']}", ok=200).json["user"]
    assert one == listed[0]
    for query, expected in (
        ("name=u1", {"u1"}),
        ("name=U1", {"u1"}),
        ("name__contains=u", {"u0", "u1", "u2", "u3", "u4"}),
        ("name__contains=U", set()),
        ("name__icontains=U", {"u0", "u1", "u2", "u3", "u4"}),
        ("enabled=false", {"u3"}),
        ("name=u3&enabled=true", set()),
        ("name=", set()),
    ):
        assert {one["name"] for one in world("GET", f"{path}&{query}", ok=200).json["users"]} == expected, query
    groups = world("GET", f"/groups?domain_id={world.domain}", ok=200).json["groups"]
    assert [(one["id"], one["name"], one["description"]) for one in groups] == [(world.id_of("staff", "group"), "staff", "people")]
    assert world("GET", f"/groups/{groups[0]['id']}").json["group"] == groups[0]
    assert [one["name"] for one in world("GET", f"/groups/{groups[0]['id']}/users").json["users"]] == ["u0"]
    world.directory.members[team.handle] = {people[1].handle}
    assert [one["name"] for one in world("GET", f"/groups/{groups[0]['id']}/users").json["users"]] == ["u1"]


def test_pages_of_a_directory_have_everybody_once(world):
    for number in range(7):
        world.directory.add_person(f"u{number}", "secret")
    path, seen = f"/users?domain_id={world.domain}&limit=3", []
    while path:
        page = world("GET", path, ok=200).json
        seen += [one["name"] for one in page["users"]]
        path = (page["links"]["next"] or "").partition("/v3")[2]
    assert sorted(seen) == [f"u{number}" for number in range(7)]


def test_a_caller_of_the_domain_sees_the_directory_and_nobody_else(world):
    world.directory.add_person("boss", "secret")
    world.directory.add_person("alice", "secret")
    world.enter("boss")
    world.grant("reader", user=world.id_of("boss"), domain=world.domain)
    token = world.enter("boss", scope={"domain": {"id": world.domain}}).headers["x-subject-token"]
    assert {one["name"] for one in world("GET", "/users", token=token, ok=200).json["users"]} == {"boss", "alice"}
    assert world("GET", "/users?domain_id=default", token=token, ok=200).json["users"] == []


def test_lists_cost_the_same_statements_for_any_number(world):
    counts = []
    for number in range(4):
        world.directory.add_team(f"g{number}", world.directory.add_person(f"u{number}", "secret").handle)
        for path in (f"/users?domain_id={world.domain}", f"/groups?domain_id={world.domain}"):
            world("GET", path, ok=200)
            with world.client.count_queries() as queries:
                world("GET", path, ok=200)
            counts.append(len(queries))
    assert len(set(counts)) == 1


def test_comparing_costs_the_same_statements_for_any_number_of_changes(database_url):
    world, counts = World(db_url=database_url), []
    for number in range(12):
        world.directory.add_person(f"u{number}", "secret")
    handles = [one.handle for one in world.directory.people.values()]
    team, other = world.directory.add_team("staff", *handles), world.directory.add_team("guests", *handles)
    world("GET", f"/users?domain_id={world.domain}", ok=200)
    world.compare()
    for first, last in ((0, 2), (2, 11)):
        for number in range(first, last):
            world.replace(f"u{number}", name=f"renamed{number}", enabled=bool(number % 2))
        world.directory.members[team.handle] = set(handles[last:])
        world.directory.members[other.handle] = set(handles[last:])
        with world.client.count_queries() as queries:
            world.compare()
        counts.append(len(queries))
        known = {one["name"]: one["enabled"] for one in world("GET", "/users", ok=200).json["users"]}
        expected = {f"renamed{number}" if number < last else f"u{number}": number >= last or bool(number % 2) for number in range(12)}
        assert known.items() >= expected.items()
        with world.service.db.read() as conn:
            assert conn.exec_driver_sql("SELECT count(*) FROM memberships").scalar_one() == 2 * (12 - last)
    assert counts[0] == counts[1]
    world.client.close()


def test_a_login_that_finds_everything_as_it_was_writes_nothing(world):
    world.directory.add_team("staff", world.directory.add_person("alice", "secret").handle)
    world.enter("alice")
    with world.client.count_queries() as queries:
        assert world.enter("alice").status == 201
    assert not [one for one in queries if not one.startswith(("SELECT", "WITH"))]


# Writing


def test_a_directory_is_not_written_to(world):
    world.directory.add_team("staff", world.directory.add_person("alice", "secret").handle)
    world.enter("alice")
    native = world.user("native")
    native_group = world.make("group", name="native")["id"]
    alice, staff = world.id_of("alice"), world.id_of("staff", "group")
    for method, path, body in (
        ("POST", "/users", {"user": {"name": "x", "domain_id": world.domain}}),
        ("PATCH", f"/users/{alice}", {"user": {"enabled": False}}),
        ("DELETE", f"/users/{alice}", None),
        ("POST", f"/users/{alice}/password", {"user": {"original_password": "secret", "password": "other"}}),
        ("POST", "/groups", {"group": {"name": "x", "domain_id": world.domain}}),
        ("PATCH", f"/groups/{staff}", {"group": {"description": "x"}}),
        ("DELETE", f"/groups/{staff}", None),
        ("PUT", f"/groups/{staff}/users/{native['id']}", None),
        ("PUT", f"/groups/{native_group}/users/{alice}", None),
        ("DELETE", f"/groups/{staff}/users/{alice}", None),
    ):
        refused = world(method, path, body)
        assert refused.status == 403, (method, path, refused.text)
        assert "are in a directory that is only read here" in message(refused)
    assert world.enter("alice").status == 201
    for user_id in (alice, world.id_of("nobody")):  # that there is one to be changed is told to those who know the password
        body = {"user": {"original_password": "wrong", "password": "other"}}
        assert world("POST", f"/users/{user_id}/password", body, token=None).status == 401


def test_federated_users_of_the_domain_are_not_the_directory_s(world):
    federate(world, domain_id=world.domain)
    answer = login(world)
    guest, token = f"/users/{answer.json['token']['user']['id']}", answer.headers["x-subject-token"]
    assert answer.json["token"]["user"]["domain"]["id"] == world.domain
    refused = world("PATCH", guest, {"user": {"password": "would not be asked for"}})
    assert (refused.status, "The passwords of this domain are in a directory" in message(refused)) == (403, True)
    world("PATCH", guest, {"user": {"enabled": False}}, ok=200)
    assert not world.alive(token)
    assert login(world).status == 401
    world("PATCH", guest, {"user": {"enabled": True}}, ok=200)
    assert login(world).status == 201
    world("DELETE", guest, ok=204)
    assert world("GET", guest).status == 404


# The configuration


def test_another_directory_takes_over_at_once(world):
    world.directory.add_person("alice", "secret")
    world.enter("alice")
    world.grant("member", user=world.id_of("alice"), project=world.project)
    token = world.scoped()
    fake._contents["fake://other"] = fake.Content()
    fake.content("fake://other").add_person("bob", "secret")
    world("PATCH", f"/domains/{world.domain}/config/ldap/url", {"config": {"url": "fake://other"}}, ok=200)
    assert world.enter("alice").status == 401
    assert world.enter("bob").status == 201
    shadows.compare(world.service)
    assert not world.alive(token), "the loop is due when the options have changed"


@pytest.mark.parametrize("how", ["whole", "group", "option", "driver"])
def test_without_its_directory_a_domain_has_nobody_who_may_do_anything(world, how):
    alice = world.directory.add_person("alice", "secret")
    world.directory.add_team("staff", alice.handle)
    world.enter("alice")
    world.grant("member", group=world.id_of("staff", "group"), project=world.project)
    token = world.scoped()
    path = f"/domains/{world.domain}/config"
    if how == "driver":
        world("PATCH", f"{path}/identity/driver", {"config": {"driver": "sql"}}, ok=200)
    else:
        world("DELETE", path + {"whole": "", "group": "/identity", "option": "/identity/driver"}[how], ok=204)
    assert not world.alive(token)
    assert world.enter("alice").status == 401
    assert world("GET", f"/users/{world.id_of('alice')}").json["user"]["enabled"] is False
    native = world.user("native", domain_id=world.domain)
    assert world.login("native", "native-secret", domain=world.domain).status == 201
    world("DELETE", f"/users/{native['id']}", ok=204)
    world.configure({"identity": {"driver": "ldap"}, "ldap": {"url": URL}})
    assert roles_of(world.enter("alice", scope={"project": {"id": world.project}})) == {"member", "reader"}, "what was given is still there"


def test_a_driver_that_is_not_there_leaves_the_domain_without_users(world, caplog):
    world.directory.add_person("alice", "secret")
    token = world.enter("alice").headers["x-subject-token"]
    world("PATCH", f"/domains/{world.domain}/config/identity/driver", {"config": {"driver": "kerberos"}}, ok=200)
    assert world.enter("alice").status == 503
    assert 'driver "kerberos", which is not there' in caplog.text
    assert world("GET", f"/users?domain_id={world.domain}").status == 503
    assert world("POST", "/users", {"user": {"name": "x", "domain_id": world.domain}}).status == 403
    assert world.alive(token)
    world.compare()
    world("PATCH", f"/domains/{world.domain}/config/identity/driver", {"config": {"driver": "ldap"}}, ok=200)
    assert world.enter("alice").status == 201


def test_two_processes_agree_without_asking_each_other(tmp_path):
    first = World(home=tmp_path, db_url=f"sqlite:///{tmp_path}/identity.db")
    alice = first.directory.add_person("alice", "secret")
    second = Identity(home=tmp_path, db_url=f"sqlite:///{tmp_path}/identity.db")
    assert first.enter("alice").status == 201
    assert second.login("alice", "secret", domain=first.domain).json["token"]["user"]["id"] == first.id_of("alice")
    fake._contents["fake://other"] = fake.Content()
    second("PATCH", f"/domains/{first.domain}/config/ldap/url", {"config": {"url": "fake://other"}}, ok=200)
    assert first.enter("alice").status == 401
    assert alice.local_id == "alice"
    first.client.close()
    second.client.close()


def test_a_deleted_domain_leaves_nothing(world):
    world.directory.add_team("staff", world.directory.add_person("alice", "secret").handle)
    world.enter("alice")
    world("PATCH", f"/domains/{world.domain}", {"domain": {"enabled": False}}, ok=200)
    world("DELETE", f"/domains/{world.domain}", ok=204)
    with world.service.db.read() as conn:
        for table in ("directory_entries", "domain_options", "memberships"):
            assert conn.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 0
    assert world.enter("alice").status == 401
    shadows.compare(world.service)


def test_the_loop_looks_when_it_is_time(world):
    world.directory.add_person("alice", "secret")
    world.enter("alice")
    own = clock.VirtualClock(clock.time())
    real = clock.use(own)

    def looks():
        before = world.directory.asked
        shadows.compare(world.service)
        return world.directory.asked > before

    try:
        assert looks()
        assert not looks()
        own.advance(15 * 60 + 1)
        world.directory.dead = True
        assert looks()
        world.directory.dead = False
        assert looks(), "after a failure it does not wait for the next time"
        assert not looks()
    finally:
        clock.use(real)


def test_many_logins_at_once_record_everybody_once(database_url, tmp_path):
    world = World(db_url=database_url, home=tmp_path)
    second = Identity(db_url=database_url, home=tmp_path)
    people = [world.directory.add_person(f"u{number}", "secret") for number in range(4)]
    for number in range(3):
        world.directory.add_team(f"g{number}", *(one.handle for one in people))
    for _round in range(2):
        answers = at_once(*(partial(where.login, one.name, "secret", domain=world.domain) for one in people for where in (world, second, world)))
        assert statuses(answers) == [201] * 12
        for person in people:
            found = world("GET", f"/users/{world.id_of(person.local_id)}/groups", ok=200).json["groups"]
            assert sorted(one["name"] for one in found) == ["g0", "g1", "g2"]
        for number, person in enumerate(people):  # everybody gets the name of another one
            world.replace(person.local_id, name=f"u{(number + 1) % 4}")
        people = list(world.directory.people.values())
    second.client.close()
    world.client.close()
