"""What a controller agrees on with others before it starts, and when it is refused."""

from __future__ import annotations

import json
import stat

import pytest
import sqlalchemy as sa

from pileus.kernel import installation
from pileus.kernel.config import load
from pileus.kernel.db import Database
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.room import load as load_path
from pileus.server import rooms, shared
from pileus.server.databases import upgrade_all
from tests import databases

BUS = {"bus": {"url": "amqp://localhost"}}
PUBLIC = {"api": {"public_url": "https://cloud"}}


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request):
    with databases.cloud_url(request.param) as url:
        db = Database(url.replace("{service}", "identity"), "identity")
        load_path(rooms.room("identity").tables).create_all(db.engine)
        db.close()
        yield url


@pytest.fixture
def configured(url, tmp_path):
    """`configured("one", {...})`: the configuration of a controller; all have the same installation secret."""

    def configured(name: str, options=None, *, home: str = ""):
        folder = tmp_path / (home or name)
        secret = installation.secret_file(folder)
        secret.parent.mkdir(parents=True, exist_ok=True)
        secret.write_text("5ec7e7" * 8)
        laid = {"database": {"url": url}, "pileus": {"host": name}, **(BUS | PUBLIC if options is None else options)}
        return load(folder, rooms.option_types(), environ={}, overrides=laid)

    return configured


def test_passwords_and_the_metadata_secret_are_those_of_the_first(configured):
    first, second = configured("one"), configured("two")
    agreed = shared.agreed_passwords(first, ["admin", "network"])
    later = shared.agreed_passwords(second, ["admin", "network", "compute"])
    assert {name: later[name] for name in agreed} == agreed
    assert shared.agreed_passwords(first, ["admin"]) == later, "what the second one added the first one gets"
    for name in ("passwords.json", "metadata-secret"):
        files = [config.home / "keys" / name for config in (first, second)]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert json.loads((first.home / "keys" / "passwords.json").read_text()) == later


def test_controllers_of_different_names_run_beside_each_other(configured):
    for name in ("one", "two", "one"):
        shared.join(configured(name))


def test_a_lone_controller_needs_neither_bus_nor_public_address(configured):
    shared.join(configured("one", {}))
    shared.join(configured("one", {}))


@pytest.mark.parametrize(("options", "sentence"), [(PUBLIC, "need RabbitMQ between them"), (BUS, "one address for all controllers")])
def test_a_second_one_needs_a_bus_and_the_address_of_all(configured, options, sentence):
    shared.join(configured("one"))
    with pytest.raises(ConfigurationError, match=sentence):
        shared.join(configured("two", options))


def test_the_name_of_a_controller_that_is_gone_is_free(configured, url):
    shared.join(configured("one"))
    db = Database(url.replace("{service}", "identity"), "identity")
    with db.write() as conn:
        conn.execute(sa.text("UPDATE controllers SET seen_at = '2020-01-01 00:00:00'"))
    db.close()
    shared.join(configured("one", home="rebuilt"))


def test_first_content_is_made_by_one_and_known_to_all(configured):
    first, second = configured("one"), configured("two")
    mark = first.home / "initial.json"
    with shared.initial_content(first, mark) as content:
        assert content.present is None
        content.complete("the private key")
    assert mark.exists()
    with shared.initial_content(second, second.home / "initial.json") as content:
        assert content.present == {"demo_key": "the private key"}
    with pytest.raises(RuntimeError), shared.initial_content(configured("three"), mark):
        raise RuntimeError("killed in the middle")


def test_on_one_machine_the_files_of_the_home_are_all(tmp_path):
    config = load(tmp_path, rooms.option_types(), environ={}, overrides={"pileus": {"services": ["identity"]}})
    upgrade_all(config)
    agreed = shared.agreed_passwords(config, ["admin"])
    assert shared.agreed_passwords(config, ["admin"]) == agreed
    shared.join(config)
    with shared.initial_content(config, tmp_path / "initial.json") as content:
        assert content.present is None
        content.complete("key")
    assert not installation.secret_file(tmp_path).exists()
