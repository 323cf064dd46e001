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
