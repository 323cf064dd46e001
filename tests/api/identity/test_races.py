"""Several callers and several processes at once, on every database there is."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from pileus.identity.logic import bootstrap
from pileus.identity.store import tables
from tests.api.identity.world import CATALOG, PASSWORD, Identity, roles_of
from tests.databases import KINDS, database_url


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    with database_url(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def identity(url, tmp_path):
    made = Identity(db_url=url, home=tmp_path / "home")
    yield made
    made.client.close()


@pytest.fixture
def second(identity, url, tmp_path):
    """Another process' view: own caches, same database, same keys."""
    made = Identity(db_url=url, home=tmp_path / "home")
    yield made
    made.client.close()


def at_once(*works):
    """Run functions in threads that start together; their results, exceptions included."""
    barrier = threading.Barrier(len(works))
    results = [None] * len(works)

    def run(index, work):
        barrier.wait()
        try:
            results[index] = work()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def statuses(answers):
    return sorted(getattr(answer, "status", answer) for answer in answers)


def rows(identity, table):
    with identity.service.db.read() as conn:
        return conn.execute(sa.select(table)).all()


def test_one_of_many_gets_a_name(identity, second):
    for kind in ("user", "group", "project", "domain", "role", "region"):
        body = {kind: {"id": "same"} if kind == "region" else {"name": "same"}}

        def make(where, path=f"/{kind}s", body=body):
            return lambda: where("POST", path, body)

        assert statuses(at_once(*[make(identity), make(second)] * 4)) == [201] + [409] * 7, kind


def test_an_old_password_is_good_for_one_change(identity, second):
    user = identity.user("ann")

    def change(where, new):
        body = {"user": {"original_password": "ann-secret", "password": new}}
        return lambda: where("POST", f"/users/{user['id']}/password", body, token=None)

    found = at_once(*[change(where, f"new{n}") for n, where in enumerate([identity, second] * 3)])
    assert statuses(found) == [204] + [401] * 5
    assert sum(identity.login("ann", f"new{n}").status == 201 for n in range(6)) == 1


def test_a_grant_given_at_once_is_one_grant_and_is_taken_once(identity, second):
    user = identity.user("ann")["id"]
    path = f"/projects/{identity.ids['admin_project']}/users/{user}/roles/{identity.role('member')}"
    assert statuses(at_once(*[lambda: identity("PUT", path), lambda: second("PUT", path)] * 3)) == [204] * 6
    assert sum(row.actor_id == user for row in rows(identity, tables.assignments)) == 1
    found = statuses(at_once(*[lambda: identity("DELETE", path), lambda: second("DELETE", path)] * 3))
    assert found == [204] + [404] * 5


def test_nothing_is_left_hanging_on_what_is_deleted_meanwhile(identity, second):
    for attempt in range(6):
        user = identity.user(f"u{attempt}")["id"]
        group = identity.make("group", name=f"g{attempt}")["id"]
        project = identity.make("project", name=f"p{attempt}")["id"]
        role = identity.make("role", name=f"r{attempt}")["id"]
        found = at_once(
            lambda: identity("PUT", f"/groups/{group}/users/{user}"),
            lambda: second("PUT", f"/projects/{project}/users/{user}/roles/{role}"),
            lambda: identity("PUT", f"/projects/{project}/groups/{group}/roles/{role}"),
            lambda: second("DELETE", (f"/users/{user}", f"/groups/{group}", f"/projects/{project}", f"/roles/{role}")[attempt % 4]),
        )
        assert set(statuses(found)) <= {204, 404}, statuses(found)
    actors = {row.id for table in (tables.users, tables.groups) for row in rows(identity, table)}
    targets = {row.id for row in rows(identity, tables.projects)} | {tables.SYSTEM}
    known = {row.id for row in rows(identity, tables.roles)}
    for row in rows(identity, tables.assignments):
        assert row.actor_id in actors and row.target_id in targets and row.role_id in known
    for row in rows(identity, tables.memberships):
        assert row.user_id in actors and row.group_id in actors


def test_users_are_not_made_in_a_domain_that_goes(identity, second):
    for attempt in range(3):
        domain = identity.make("domain", name=f"d{attempt}", enabled=False)["id"]
        body = {"name": f"u{attempt}", "domain_id": domain}
        found = at_once(
            lambda: identity("DELETE", f"/domains/{domain}"),
            lambda: second("POST", "/users", {"user": body}),
            lambda: identity("POST", "/projects", {"project": body}),
            lambda: second("POST", "/groups", {"group": body}),
        )
        assert set(statuses(found)) <= {201, 204, 403, 404}, [getattr(one, "text", one) for one in found]
    domains = {row.id for row in rows(identity, tables.projects) if row.is_domain}
    for table in (tables.users, tables.groups):
        assert {row.domain_id for row in rows(identity, table)} <= domains
    assert {row.domain_id for row in rows(identity, tables.projects) if not row.is_domain} <= domains


def test_what_one_process_revokes_is_revoked_in_the_other_at_once(identity, second):
    who, project, token = identity.member("ann", "member", "manager")
    assert second.validate(token).status == 200
    base = f"/projects/{project['id']}/users/{who['id']}/roles/"
    identity("DELETE", base + identity.role("manager"), ok=204)
    assert roles_of(second.validate(token)) == {"member", "reader"}
    identity("DELETE", "/auth/tokens", headers={"X-Subject-Token": token}, ok=204)
    assert second.validate(token).status == 404
    assert second("GET", "/auth/projects", token=token).status == 401


def test_every_change_raises_the_revision(identity, second):
    users = [identity.user(f"u{n}")["id"] for n in range(6)]
    before = rows(identity, tables.revision)[0].value

    def disable(where, user):
        return lambda: where("PATCH", f"/users/{user}", {"user": {"enabled": False}})

    found = at_once(*[disable(where, user) for where, user in zip([identity, second] * 3, users, strict=True)])
    assert statuses(found) == [200] * 6
    assert rows(identity, tables.revision)[0].value == before + 6


def test_the_initial_content_is_made_once(identity, second):
    def again(where):
        return lambda: bootstrap.bootstrap(where.service, PASSWORD, CATALOG, {"nova": "x", "glance": "y"})

    tables_made = (tables.users, tables.projects, tables.roles, tables.services, tables.endpoints, tables.assignments)
    at_once(*[again(identity), again(second)] * 2)
    counts = [len(rows(identity, table)) for table in tables_made]
    assert counts == [3, 3, 5, 2, 6, 5]
    assert again(identity)() == identity.ids == again(second)()
    assert [len(rows(identity, table)) for table in tables_made] == counts
    assert identity.login("nova", "nova-secret").status == 201  # an existing password stays


def test_catalog_urls_follow_the_configuration(identity):
    moved = [{**entry, "url": entry["url"].replace("http://c", "https://new")} for entry in CATALOG]
    bootstrap.bootstrap(identity.service, PASSWORD, moved, {})
    found = {endpoint["url"] for endpoint in identity("GET", "/endpoints").json["endpoints"]}
    assert found == {"https://new/identity/v3", "https://new/volume/v3/$(project_id)s"}


def test_lists_filter_alike_on_every_database(identity):
    for name in ("Alpha", "alphabet", "beta"):
        identity.user(name)
    for query, expected in {
        "name__startswith=al": {"alphabet"},
        "name__istartswith=AL": {"Alpha", "alphabet"},
        "name__contains=lpha": {"Alpha", "alphabet"},
        "name__endswith=a": {"Alpha", "beta"},
        "name__iendswith=PHA": {"Alpha"},
    }.items():
        assert {user["name"] for user in identity("GET", f"/users?{query}", ok=200).json["users"] if user["name"] != "nova"} == expected
