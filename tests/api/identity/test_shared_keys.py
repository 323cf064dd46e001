"""Two identity services on two machines with one database: what one signs the other reads, whatever is rotated meanwhile."""

from __future__ import annotations

import shutil

import pytest
import sqlalchemy as sa

from pileus.identity.logic import keys, sealing, state
from tests import databases
from tests.api.identity.world import PASSWORD, Identity


@pytest.fixture(params=["postgresql", "mariadb"])
def pair(request, tmp_path):
    with databases.database_url(request.param, tmp_path) as url:
        here = Identity(db_url=url, home=tmp_path / "here")
        (tmp_path / "there" / "keys").mkdir(parents=True)
        shutil.copy(tmp_path / "here" / "keys" / "installation-secret", tmp_path / "there" / "keys")
        there = Identity(db_url=url, home=tmp_path / "there")
        yield here, there
        for made in (here, there):
            made.service.db.close()
            made.client.close()


def test_the_keys_are_in_the_database_alone(pair):
    for made in pair:
        assert not (made.service.home / "keys" / "fernet").exists()


def test_a_token_is_taken_everywhere_through_a_rotation(pair):
    here, there = pair
    before = here.token("admin", PASSWORD)
    assert there.validate(before).status == 200
    for rotating, signing, reading in ((here, here, there), (here, there, here), (there, here, there)):
        old = reading.token("admin", PASSWORD)
        keys.rotate(rotating.service)
        new = signing.token("admin", PASSWORD)
        assert reading.validate(new, by=new).status == 200
        assert signing.validate(old, by=new).status == 200
    assert here.validate(before, by=new).status == there.validate(before, by=new).status == 404, "its key is gone by now"


def test_who_missed_several_rotations_signs_with_the_newest_key(pair):
    here, there = pair
    for _ in range(5):
        keys.rotate(there.service)
    token = here.token("admin", PASSWORD)
    assert there.validate(token, by=token).status == 200


def test_a_rotation_raises_the_revision_in_its_transaction(pair):
    here, _there = pair
    before = state.revision_of(here.service)
    keys.rotate(here.service)
    assert state.revision_of(here.service) == before + 1
    with pytest.raises(sa.exc.SQLAlchemyError), here.service.db.write() as conn:
        conn.execute(sa.text("DROP TABLE vault" if here.service.db.url.get_backend_name() == "postgresql" else "SELECT nothing"))
        state.of(here.service).shared.rotate(conn, 3)
    assert state.revision_of(here.service) == before + 1
    assert here.token("admin", PASSWORD)


def test_credentials_are_read_where_they_were_not_written(pair):
    here, there = pair
    user = here.user("ann")
    body = {"credential": {"type": "cert", "user_id": user["id"], "blob": "secret text", "project_id": here.ids["admin_project"]}}
    made = here("POST", "/credentials", body, ok=201).json["credential"]
    fresh = there.token("admin", PASSWORD)
    assert there("GET", f"/credentials/{made['id']}", token=fresh, ok=200).json["credential"]["blob"] == "secret text"
    for rotating in (here, there, here):
        assert sealing.rotate(rotating.service) == 1
        for reading in (here, there):
            assert reading("GET", f"/credentials/{made['id']}", token=reading.token("admin", PASSWORD), ok=200).json["credential"] == made
    again = there("POST", "/credentials", body, token=there.token("admin", PASSWORD), ok=201).json["credential"]
    assert here("GET", f"/credentials/{again['id']}", ok=200).json["credential"]["blob"] == "secret text"
