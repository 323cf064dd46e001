"""What identity's migrations do with rows that are there."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from pileus.identity.store import tables
from pileus.kernel.db import Database, migrate


def before(db, revision):
    """Bring the database to the state before a revision."""
    whole = migrate.script_of("identity")
    script = type("Older", (), {"iterate_revisions": lambda _self, upper, lower: [
        one for one in whole.iterate_revisions(upper, lower) if one.revision < revision
    ]})()
    migrate._upgrade(db, script)


def test_rules_of_passwords_begin_today_for_people_and_never_for_services(database_url):
    db = Database(database_url, "identity")
    before(db, "0008")
    with db.write() as conn:
        insert = sa.text(
            "INSERT INTO users (id, domain_id, name, enabled, options, extra, created_at)"
            " VALUES (:id, 'default', :id, :yes, :options, '{}', '2026-01-01 00:00:00')"
        )
        for name in ("ann", "nova", "node-1"):
            options = '{"lock_password": true}' if name == "node-1" else "{}"
            conn.execute(insert, {"id": name, "options": options, "yes": True})
        role = sa.text("INSERT INTO roles (id, name, domain_id, options, extra) VALUES (:id, :id, '', '{}', '{}')")
        grant = sa.text(
            "INSERT INTO assignments (actor_id, target_id, role_id, inherited, actor_kind, target_kind)"
            " VALUES (:user, 'p', :role, :no, 'U', 'P')"
        )
        for user, name in (("ann", "member"), ("nova", "service"), ("node-1", "node")):
            conn.execute(role, {"id": name})
            conn.execute(grant, {"user": user, "role": name, "no": False})
    assert migrate.upgrade(db, "identity")[0] == "0008"
    users = tables.users
    with db.read() as conn:
        found = {row.id: row for row in conn.execute(sa.select(users))}
    today = dt.datetime.now(dt.UTC).date()
    assert (today - found["ann"].last_active_at).days in {0, 1} and found["ann"].options == {}
    assert found["nova"].last_active_at is None is found["node-1"].last_active_at
    assert found["nova"].options == {"ignore_lockout_failure_attempts": True}
    assert found["node-1"].options == {"lock_password": True, "ignore_lockout_failure_attempts": True}
    assert {(row.failed_auth_count, row.password_self_service) for row in found.values()} == {(0, False)}
    db.close()


def test_limits_stay_when_registered_ones_lose_their_service(database_url):
    db = Database(database_url, "identity")
    before(db, "0013")
    with db.write() as conn:
        service = sa.text("INSERT INTO services (id, type, enabled, extra) VALUES ('s', 't', :yes, '{}')")
        conn.execute(service, {"yes": True})
        registered = "INSERT INTO registered_limits (id, service_id, region_id, resource_name, default_limit) VALUES ('r', 's', '', 'x', 3)"
        conn.execute(sa.text(registered))
        limit = "INSERT INTO limits (id, registered_limit_id, project_id, domain_id, resource_limit) VALUES ('l', 'r', 'p', '', 5)"
        conn.execute(sa.text(limit))
    assert migrate.upgrade(db, "identity")[0] == "0013"
    with db.write() as conn:
        conn.execute(sa.text("DELETE FROM services"))
        assert [row.id for row in conn.execute(sa.select(tables.registered_limits))] == ["r"]
        assert [(row.id, row.resource_limit) for row in conn.execute(sa.select(tables.limits))] == [("l", 5)]
        conn.execute(sa.text("DELETE FROM registered_limits"))
        assert conn.execute(sa.select(tables.limits)).all() == []
    db.close()
