"""Stored secrets are encrypted, and their keys rotate without losing one."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from pileus.identity.logic import sealing, state
from pileus.identity.store.tables import credentials
from pileus.kernel.errors import Internal


def stored(identity):
    with identity.service.db.read() as conn:
        return dict(conn.execute(sa.select(credentials.c.id, credentials.c.blob)).all())


@pytest.fixture
def made(identity, monkeypatch):
    """Five credentials, by id; three fit on a page."""
    monkeypatch.setattr(sealing, "_PAGE", 3)
    who = identity.user("ann")
    found = {}
    for number in range(5):
        body = {"credential": {"type": "cert", "user_id": who["id"], "blob": f"secret {number}"}}
        one = identity("POST", "/credentials", body, ok=201).json["credential"]
        found[one["id"]] = one
    return found


def shown(identity):
    return {one["id"]: one for one in identity("GET", "/credentials", token=identity.admin, ok=200).json["credentials"]}


def test_any_number_of_rotations_loses_nothing(identity, made):
    before = stored(identity)
    assert not any("secret" in blob for blob in before.values())
    for _ in range(4):
        assert sealing.rotate(identity.service) == 5
        assert shown(identity) == made
    assert not set(before.values()) & set(stored(identity).values())
    assert len(state.of(identity.service).credential_keys.content()) == 3


def test_what_was_written_with_an_older_key_is_read_and_carried_over(identity, made):
    late = state.of(identity.service).credential_keys.fernets()[0].encrypt(b"secret of a slow writer").decode()
    sealing.rotate(identity.service)
    one = next(iter(made))
    with identity.service.db.write() as conn:
        conn.execute(sa.update(credentials).where(credentials.c.id == one).values(blob=late))
    for _ in range(4):
        assert shown(identity)[one]["blob"] == "secret of a slow writer"
        sealing.rotate(identity.service)


def test_a_secret_that_no_key_reads_stops_the_rotation(identity, made):
    one = next(iter(made))
    with identity.service.db.write() as conn:
        conn.execute(sa.update(credentials).where(credentials.c.id == one).values(blob=Fernet(Fernet.generate_key()).encrypt(b"x").decode()))
    before, keys = stored(identity), state.of(identity.service).credential_keys.content()
    with pytest.raises(Internal):
        sealing.rotate(identity.service)
    assert stored(identity) == before
    assert state.of(identity.service).credential_keys.content() == keys
    answer = identity("GET", f"/credentials/{one}")
    assert answer.status == 500
    assert "key" not in answer.text
