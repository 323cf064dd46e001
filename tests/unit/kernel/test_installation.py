"""What controllers share: secrets in a vault, keys that rotate for all, and who is there."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa
from cryptography.fernet import InvalidToken
from racing import at_once

from pileus.kernel import installation, key_kinds, shared_keys
from pileus.kernel.db import Database
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.installation import Vault
from pileus.kernel.shared_keys import SharedKeys

METADATA = sa.MetaData()
installation.tables(METADATA)
CONTROLLERS = METADATA.tables["controllers"]


@pytest.fixture
def db(database_url):
    db = Database(database_url, "installation")
    METADATA.create_all(db.engine)
    yield db
    db.close()


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


# --- the vault ---


def test_a_secret_is_kept_encrypted_and_replaced(db, home):
    vault = Vault(home)
    with db.write() as conn:
        assert vault.get(conn, "a") is None
        vault.put(conn, "a", b"first")
        vault.put(conn, "a", b"second")
        assert Vault(home).get(conn, "a") == b"second"
        stored = conn.execute(sa.select(METADATA.tables["vault"].c.value)).scalar_one()
    assert "second" not in stored
    assert installation.secret_file(home).stat().st_mode & 0o777 == 0o600


def test_all_use_what_was_offered_first(db, home):
    Vault(home)
    with db.write() as conn:
        assert Vault(home).agree(conn, "a", b"first") == b"first"
        assert Vault(home).agree(conn, "a", b"second") == b"first"


def test_a_home_without_the_secret_or_with_another_one_is_told_so(db, home, tmp_path):
    with db.write() as conn:
        Vault(home).put(conn, "a", b"value")
        stranger = tmp_path / "stranger"
        with pytest.raises(ConfigurationError, match="installation-secret is missing"):
            Vault(stranger).get(conn, "a")
        installation.secret_file(stranger).parent.mkdir(parents=True)
        installation.secret_file(stranger).write_text("0" * 64)
        with pytest.raises(ConfigurationError, match="is not the secret of the installation"):
            Vault(stranger).get(conn, "a")
        with pytest.raises(ConfigurationError, match="is not the secret of the installation"):
            Vault(stranger).agree(conn, "a", b"other")


# --- shared keys ---


def test_what_a_staged_key_signs_is_read_by_who_has_not_seen_the_rotation(db, home):
    mine, theirs = (SharedKeys(Vault(home), "keys") for _ in range(2))
    with db.write() as conn:
        mine.setup(conn)
        before = theirs.at(conn, 1).fernets()
        mine.rotate(conn, 3)
        after = mine.at(conn, 2).fernets()
        assert any(_opens(key, after[0].encrypt(b"x")) for key in before)
        assert any(_opens(key, before[0].encrypt(b"x")) for key in after)
        assert theirs.at(conn, 1).fernets() is before, "nothing is read twice for one revision"
        assert len(theirs.at(conn, 2).fernets()) == 3


def _opens(key, sealed) -> bool:
    try:
        key.decrypt(sealed)
    except InvalidToken:
        return False
    return True


def test_rotation_keeps_as_many_keys_as_it_is_told():
    keys = {0: "staged", 1: "one"}
    seen = []
    for _ in range(4):
        keys = shared_keys.rotated(keys, 3)
        seen.append(sorted(keys))
    assert seen == [[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5]]
    assert sorted(shared_keys.rotated(keys, 1)) == [0, 6]


def test_keys_of_files_go_on_in_the_vault(db, home):
    keys = SharedKeys(Vault(home), "keys")
    one, two = key_kinds.new_fernet_key(), key_kinds.new_fernet_key()
    with db.write() as conn:
        keys.setup(conn, {0: one, 4: two})
        keys.setup(conn, {0: two, 4: one})
        assert [key._signing_key for key in keys.at(conn, 1).fernets()] == [  # noqa: SLF001
            shared_keys.Fernet(text)._signing_key  # noqa: SLF001
            for text in (two, one)
        ]


def test_there_may_be_no_keys(db, home):
    with db.read() as conn, pytest.raises(FileNotFoundError):
        SharedKeys(Vault(home), "keys").at(conn, 1)


# --- who is there ---


def test_a_second_home_of_the_same_name_is_not_registered_while_the_first_lives(db):
    with db.write() as conn:
        assert installation.register(conn, "one", "home-a", "http://a", ["controller"]) is None
        assert installation.register(conn, "one", "home-a", "http://a", ["controller"]) is None
        seen_at = installation.register(conn, "one", "home-b", "http://b", ["controller"])
        assert isinstance(seen_at, dt.datetime)
        long_ago = seen_at - installation.ALIVE
        conn.execute(sa.update(CONTROLLERS).values(seen_at=long_ago))
        assert installation.register(conn, "one", "home-b", "http://b", ["controller"]) is None
        assert conn.execute(sa.select(CONTROLLERS.c.home)).scalar_one() == "home-b"


def test_others_are_those_that_were_seen_lately(db):
    with db.write() as conn:
        for host in ("one", "two", "three"):
            installation.register(conn, host, host, f"http://{host}", ["controller"])
        installation.leave(conn, "three", "another home of this name")
        assert installation.others(conn, "one") == {"two": "http://two", "three": "http://three"}
        installation.leave(conn, "three", "three")
        conn.execute(sa.update(CONTROLLERS).where(CONTROLLERS.c.host == "two").values(seen_at=dt.datetime(2020, 1, 1)))  # noqa: DTZ001
        assert installation.others(conn, "one") == {}


def test_a_removed_controller_is_refused_until_it_is_let_in_again(db):
    with db.write() as conn:
        installation.register(conn, "one", "home", "http://a", ["controller"])
        assert not installation.admit(conn, "one", "http://a", ["controller"]), "the name is taken"
        conn.execute(sa.update(CONTROLLERS).values(state=installation.REMOVED))
        with pytest.raises(ConfigurationError, match="one was removed from this cloud"):
            installation.register(conn, "one", "home", "http://a", ["controller"])
        assert installation.admit(conn, "one", "http://a", ["controller", "compute"])
        assert installation.others(conn, "two") == {}, "it has not started yet"
        assert installation.register(conn, "one", "another home", "http://a", ["controller"]) is None
        assert installation.others(conn, "two") == {"one": "http://a"}


def test_a_controller_that_shares_nothing_may_move_to_another_home_at_once(db):
    with db.write() as conn:
        for _ in range(2):
            assert installation.register(conn, "one", installation.NOBODY, "http://a", ["controller"]) is None
        assert installation.others(conn, "two") == {}


def test_two_homes_of_one_machine_are_told_apart(tmp_path):
    assert installation.identity_of(tmp_path / "a") != installation.identity_of(tmp_path / "b")
    assert installation.identity_of(tmp_path / "a") == installation.identity_of(tmp_path / "a")


# --- one at a time ---


def test_only_one_process_at_a_time_is_inside(database_url, tmp_path):
    log = tmp_path / "log"
    log.touch()

    def work(_number):
        db = Database(database_url, "exclusive")
        try:
            with db.exclusive("work"):
                with log.open("a") as file:
                    file.write("in ")
                    file.flush()
                    file.write("out ")
        finally:
            db.close()
        return True

    assert all(at_once(work, processes=4, threads=2))
    assert log.read_text() == "in out " * 8


def test_who_waits_too_long_for_its_turn_is_told_so(database_url):
    holder, waiter = (Database(database_url, "exclusive") for _ in range(2))
    with holder.exclusive("work"), pytest.raises(ConfigurationError, match="another process has"), waiter.exclusive("work", 0.1):
        pass
    with waiter.exclusive("work", 30):
        pass
    holder.close()
    waiter.close()
