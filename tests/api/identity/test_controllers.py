"""Controllers that join: invited, given what all have the same, drained and removed like nodes, but for the last one."""

from __future__ import annotations

import json
import stat

import pytest

from pileus.cli import join as cli_join
from pileus.kernel import installation
from pileus.kernel.certificates import fingerprint, new_request
from pileus.kernel.config import load
from pileus.server import rooms
from tests.api.identity.test_nodes import prepare
from tests.api.identity.world import Identity, message

ROLES = ["compute", "controller"]
NEEDED = {
    "api": {"trusted_proxies": ["192.0.2.10"]},
    "database": {"url": "postgresql://pileus:s3cret@db/pileus_{service}"},
    "image": {"store_directory": "/srv/images"},
    "compute": {"fake_latency": "{create = 0.5}"},
}


class Nothing:
    """A broker that is never asked."""

    class server:
        server_port = 1


def configured(home, **changes):
    """A home whose configuration lets controllers in; `changes` are options by section."""
    authority = prepare(home, Nothing, **{name: {**NEEDED.get(name, {}), **changes.get(name, {})} for name in ("api", "bus")})
    lines = []
    for name in ("database", "image"):
        options = {**NEEDED[name], **changes.get(name, {})}
        lines.append(f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in options.items()))
    with (home / "pileus.toml").open("a") as file:
        file.write("\n".join(["", *lines, "[compute]\nfake_latency = {create = 0.5}\n"]))
    for name, content in (("keys/installation-secret", "f" * 64), ("etc/compute-policy.yaml", "{}\n"), ("keys/passwords.json", "{}")):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(content)
    return authority


def identity_in(home):
    """Identity with the configuration of a home, and a database of its own instead of the one named there."""
    return Identity(home=home, sections=rooms.option_types(), db_url=f"sqlite:///{home}/identity.sqlite")


@pytest.fixture
def cloud(tmp_path):
    home = tmp_path / "first"
    home.mkdir()
    authority = configured(home)
    made = identity_in(home)
    made.authority = authority
    with made.service.db.write() as conn:
        installation.register(conn, "host1", "home", "https://cloud.example.test:5000", ["controller"])
    yield made
    made.client.close()


def invite(cloud, roles=ROLES, ok=201):
    return cloud("POST", "/pileus/node_tokens", {"node_token": {"roles": roles}}, ok=ok).json["node_token"]


def join(cloud, name="second", secret=None, ok=None):
    body = {"secret": secret or invite(cloud)["secret"], "name": name, "request": new_request(name)[1].decode()}
    return cloud("POST", "/pileus/nodes", {"node": body}, token=None, ok=ok)


def show(cloud, name="second"):
    return cloud("GET", f"/pileus/nodes/{name}", ok=200).json["node"]


def test_a_machine_that_joins_as_a_controller_has_what_all_controllers_have(cloud, tmp_path):
    answer = join(cloud, ok=201).json
    assert {key: answer["node"][key] for key in ("name", "principal", "state", "roles", "certificate")} == {
        "name": "second",
        "principal": None,
        "state": "active",
        "roles": ROLES,
        "certificate": None,
    }
    home = tmp_path / "second"
    cli_join.record_controller(home, "192.0.2.12", answer)
    first = cloud.service.home
    for name in ("keys/installation-secret", "tls/ca.pem", "tls/ca.key", "etc/compute-policy.yaml"):
        assert (home / name).read_text() == (first / name).read_text(), name
    assert not (home / "keys/passwords.json").exists(), "those are in the vault"
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*") if path.is_file()} == {0o600}
    assert cloud.authority.signed((home / "tls/server.pem").read_bytes())
    mine, theirs = (load(folder, rooms.option_types(), environ={}) for folder in (home, first))
    assert (mine.host, mine.pileus.roles, mine.api.host) == ("second", ROLES, "192.0.2.12")
    assert mine.api.certificate == f"{home}/tls/server.pem"
    assert (mine.base_url, mine.api.trusted_proxies) == (theirs.base_url, ["192.0.2.10"])
    assert (mine.database, mine.bus.url) == (theirs.database, theirs.bus.url)
    assert mine.section("image") == theirs.section("image")
    assert mine.section("compute").fake_latency == {"create": 0.5}
    assert fingerprint((home / "tls/ca.pem").read_bytes()) == invite(cloud)["fingerprint"]


def test_an_invitation_of_a_controller_is_good_once(cloud):
    secret = invite(cloud)["secret"]
    join(cloud, "second", secret, ok=201)
    assert join(cloud, "third", secret).status == 401
    for name in ("second", "host1"):
        assert "already" in message(join(cloud, name)), name
    assert join(cloud, "a/b").status == 400


def test_a_name_that_is_taken_at_the_same_moment_is_refused_and_the_invitation_stays_good(cloud, monkeypatch):
    secret = invite(cloud)["secret"]
    monkeypatch.setattr(installation, "admit", lambda *_: False)
    assert "already" in message(join(cloud, "second", secret))
    monkeypatch.undo()
    join(cloud, "second", secret, ok=201)


def test_the_controller_that_answers_is_seen_now(cloud):
    with cloud.service.db.write() as conn:
        conn.exec_driver_sql("UPDATE controllers SET seen_at = '2020-01-01 00:00:00'")
    assert show(cloud, "host1")["seen_at"] > "2026"


def test_nodes_and_controllers_share_one_list_of_names(cloud):
    join(cloud, ok=201)
    listed = cloud("GET", "/pileus/nodes", ok=200).json["nodes"]
    assert [(node["name"], node["roles"]) for node in listed] == [("host1", ["controller"]), ("second", ROLES)]
    taken = join(cloud, "second", invite(cloud, ["compute"])["secret"])
    assert (taken.status, "name of a controller" in message(taken)) == (409, True)


def test_a_controller_is_drained_and_removed_and_the_last_one_is_not(cloud):
    join(cloud, ok=201)
    cloud("PATCH", "/pileus/nodes/second", {"node": {"state": "draining"}}, ok=200)
    assert show(cloud)["state"] == "draining"
    cloud("PATCH", "/pileus/nodes/second", {"node": {"state": "active"}}, ok=200)
    renewal = cloud("POST", "/pileus/nodes/second/certificates", {"certificate": {"request": new_request("second")[1].decode()}})
    assert (renewal.status, "pileus tls" in message(renewal)) == (409, True)
    cloud("DELETE", "/pileus/nodes/second", ok=204)
    assert show(cloud)["state"] == "removed"
    cloud("DELETE", "/pileus/nodes/second", ok=204)
    assert cloud("PATCH", "/pileus/nodes/second", {"node": {"state": "active"}}).status == 409
    last = cloud("DELETE", "/pileus/nodes/host1")
    assert (last.status, "only controller" in message(last)) == (409, True)
    join(cloud, ok=201)
    assert show(cloud)["state"] == "active"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"database": {"url": ""}}, "database.url"),
        ({"bus": {"url": ""}}, "bus.url"),
        ({"api": {"public_url": "", "host": "192.0.2.11"}}, "api.public_url"),
        ({"image": {"store_directory": ""}}, "image.store_directory"),
        ({"api": {"public_url": "http://cloud.example.test"}}, "no TLS"),
    ],
)
def test_a_cloud_that_cannot_have_a_second_controller_says_what_to_do(tmp_path, changes, sentence):
    configured(tmp_path, **changes)
    made = identity_in(tmp_path)
    answer = made("POST", "/pileus/node_tokens", {"node_token": {"roles": ["controller"]}})
    assert (answer.status, sentence in message(answer)) == (409, True), message(answer)
    made.client.close()


def test_behind_a_load_balancer_with_tls_a_controller_needs_none_of_its_own(tmp_path):
    configured(tmp_path, api={"certificate": "", "key": ""})
    made = identity_in(tmp_path)
    invite(made)
    made.client.close()


def test_storage_is_no_role_yet_and_is_refused(cloud):
    answer = cloud("POST", "/pileus/node_tokens", {"node_token": {"roles": ["storage"]}})
    assert (answer.status, "storage" in message(answer)) == (400, True)


def test_an_answer_that_would_write_elsewhere_is_not_taken(cloud, tmp_path):
    answer = join(cloud, ok=201).json
    for path in ("/etc/cron.d/x", "keys/../../x", "pileus.toml"):
        answer["given"]["files"] = {path: "x"}
        with pytest.raises(cli_join.Problem, match="Nothing is done"):
            cli_join.record_controller(tmp_path / "second", "192.0.2.12", answer)
    assert not list(tmp_path.glob("second/*"))
