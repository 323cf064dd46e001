"""Nodes: invited, joined, renewed, drained, removed; and the broker's users always follow."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from urllib.parse import unquote

import pytest
import sqlalchemy as sa

from pileus.identity.logic import nodes as logic
from pileus.identity.store import nodes as store
from pileus.identity.store.tables import assignments
from pileus.kernel import clock
from pileus.kernel.bus.sender import node_of
from pileus.kernel.certificates import Authority, common_name, end_of, fingerprint, new_request, private_pem
from pileus.kernel.errors import Unavailable
from tests.api.identity.world import Identity, message, roles_of


class Broker:
    """As much of RabbitMQ's management API as nodes need."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, object]] = {"guest": {}}
        self.well = True
        broker = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                login = base64.b64decode(self.headers["Authorization"].partition(" ")[2]).decode()
                status, said = broker.answer(self.command, self.path, json.loads(body or b"null")) if login == "root:p@ss" else (401, None)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(said).encode() if said is not None else b"")

            do_GET = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, method: str, path: str, body: dict[str, object] | None) -> tuple[int, object]:
        kind, *names = [unquote(part) for part in path.removeprefix("/api/").split("/")]
        if not self.well:
            return 503, None
        if (method, kind) == ("GET", "users"):
            return 200, [{"name": name} for name in self.users]
        if (method, kind) == ("PUT", "users"):
            assert body == {"password_hash": "", "tags": ""}
            self.users.setdefault(names[0], {})
            return 201, None
        if (method, kind) == ("PUT", "permissions"):
            self.users[names[1]] |= {**body, "vhost": names[0]}
            return 201, None
        if (method, kind) == ("PUT", "user-limits"):
            self.users[names[0]][names[1]] = body["value"]
            return 204, None
        assert (method, kind) == ("DELETE", "users")
        return (204 if self.users.pop(names[0], None) is not None else 404), None

    @property
    def nodes(self) -> list[str | None]:
        return sorted(node_of(user) for user in self.users if user != "guest")


@pytest.fixture
def broker():
    broker = Broker()
    yield broker
    broker.server.shutdown()
    broker.server.server_close()


def prepare(home, broker, **changes):
    """A home whose configuration lets nodes in; `changes` are lines by section."""
    tls = home / "tls"
    tls.mkdir(parents=True)
    authority = Authority.make()
    key, chain = authority.server("c", ["c"])
    for name, content in (("ca.key", private_pem(authority.key)), ("ca.pem", authority.pem), ("server.key", key), ("server.pem", chain)):
        (tls / name).write_bytes(content)
    api = {"certificate": f"{tls}/server.pem", "key": f"{tls}/server.key", "public_url": "https://cloud.example.test:5000"}
    bus = {
        "url": "amqps://pileus:secret@one:5671/cloud;amqps://pileus:secret@two:5671/cloud",
        "management": f"http://root:p%40ss@127.0.0.1:{broker.server.server_port}",
        "quorum": True,
    }
    sections = {"api": {**api, **changes.get("api", {})}, "bus": {**bus, **changes.get("bus", {})}}
    lines = [f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()) for name, values in sections.items()]
    (home / "pileus.toml").write_text("\n".join(lines))
    return authority


@pytest.fixture
def cloud(tmp_path, broker):
    authority = prepare(tmp_path, broker)
    made = Identity(home=tmp_path)
    made.authority = authority
    yield made
    made.client.close()


def invite(cloud, **body):
    return cloud("POST", "/pileus/node_tokens", {"node_token": {"roles": ["compute", "network"], **body}}, ok=201).json["node_token"]


def join(cloud, name="one", secret=None, request=None, ok=None):
    _, made = new_request("whoever")
    body = {"secret": secret or invite(cloud)["secret"], "name": name, "request": (request or made).decode()}
    return cloud("POST", "/pileus/nodes", {"node": body}, token=None, ok=ok)


def state_of(cloud, name="one"):
    return cloud("GET", f"/pileus/nodes/{name}", ok=200).json["node"]["state"]


def test_an_invited_machine_becomes_a_node_with_all_it_needs_and_no_more(cloud, broker):
    token = invite(cloud)
    assert token["url"] == "https://cloud.example.test:5000"
    shown = cloud("GET", "/pileus/authority", token=None, ok=200).json["authority"]["certificate"]
    assert fingerprint(shown.encode()) == token["fingerprint"]
    answer = join(cloud, "one", token["secret"], ok=201).json
    node, given = answer["node"], answer["given"]
    assert (node["name"], node["state"], node["roles"], node["seen_at"]) == ("one", "active", ["compute", "network"], None)
    certificate = given["certificate"].encode()
    assert common_name(certificate) == node["principal"]
    assert cloud.authority.signed(certificate)
    assert (end_of(certificate) - clock.utcnow()).days == 364
    assert given["settings"] == {
        "pileus": {"host": "one", "region": "RegionOne", "services": ["identity", "image", "placement", "network", "compute"], "roles": ["compute", "network"]},
        "api": {"controller_url": "https://cloud.example.test:5000"},
        "bus": {"url": "amqps://one:5671/cloud;amqps://two:5671/cloud", "quorum": True},
    }
    assert "secret" not in json.dumps(given), "no password of the installation"
    assert broker.users[node["principal"]] == {
        "vhost": "cloud",
        "max-connections": 8,
        "max-channels": 32,
        "configure": r"^(pileus\.agent\.one|amq\.gen-.*)$",
        "write": r"^(amq\.default|amq\.gen-.*)$",
        "read": r"^(pileus\.agent\.one|amq\.gen-.*|pileus\.agents)$",
    }
    service = {"project": {"name": "service", "domain": {"id": "default"}}}
    assert roles_of(cloud.login(node["principal"], given["password"], service)) == {"node"}


def test_an_invitation_is_good_once_and_for_its_time(cloud, monkeypatch):
    secret = invite(cloud)["secret"]
    join(cloud, "one", secret, ok=201)
    assert join(cloud, "two", secret).status == 401
    assert join(cloud, "two", "f" * 64).status == 401
    late = invite(cloud, minutes=1)["secret"]
    now = clock.utcnow
    monkeypatch.setattr(logic.clock, "utcnow", lambda: now() + logic.timedelta(seconds=61))
    assert join(cloud, "two", late).status == 401


def test_an_invitation_may_be_for_one_name_alone(cloud):
    secret = invite(cloud, name="one")["secret"]
    answer = join(cloud, "two", secret)
    assert (answer.status, "name one" in message(answer)) == (409, True)
    join(cloud, "one", secret, ok=201)
    assert cloud("POST", "/pileus/node_tokens", {"node_token": {"roles": ["compute"], "name": "a b"}}).status == 400


def test_two_machines_with_one_invitation_race_and_one_joins(cloud):
    secret, answers = invite(cloud)["secret"], []
    threads = [threading.Thread(target=lambda name=name: answers.append(join(cloud, name, secret).status)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 401, 401]
    assert len(cloud("GET", "/pileus/nodes").json["nodes"]) == 1


def test_a_secret_is_stored_as_its_hash_alone(cloud):
    secret = invite(cloud)["secret"]
    with cloud.service.db.read() as conn:
        rows = conn.execute(sa.select(store.node_tokens)).all()
    assert len(rows) == 1
    assert secret not in repr(rows)


def test_names_that_are_taken_or_cannot_be_one_are_refused_and_the_invitation_stays_good(cloud, broker):
    join(cloud, "one", ok=201)
    secret = invite(cloud)["secret"]
    taken = join(cloud, "one", secret)
    assert taken.status == 409
    assert "pileus node remove one" in message(taken)
    assert join(cloud, "host1", secret).status == 409, "a controller's name"
    for name in ("", "a b", "a/b", ".*", "x" * 51, "-a", "one\n"):
        assert join(cloud, name, secret).status == 400, name
    assert join(cloud, "two", secret, b"nothing").status == 400
    assert broker.nodes == ["one"]
    join(cloud, "two", secret, ok=201)


def test_a_removed_node_is_nobody_and_its_name_is_free(cloud, broker):
    first = join(cloud, "one", ok=201).json
    token = cloud.token(first["node"]["principal"], first["given"]["password"], {"project": {"name": "service", "domain": {"id": "default"}}})
    user_id = cloud.validate(token).json["token"]["user"]["id"]
    cloud("DELETE", "/pileus/nodes/one", ok=204)
    assert broker.nodes == []
    assert cloud.validate(token).status == 404, "at once"
    assert cloud.login(first["node"]["principal"], first["given"]["password"]).status == 401
    with cloud.service.db.read() as conn:
        left = conn.execute(sa.select(assignments).where(assignments.c.actor_id == user_id)).all()
    assert (left, cloud("GET", f"/users/{user_id}").status) == ([], 404)
    assert state_of(cloud) == "removed"
    cloud("DELETE", "/pileus/nodes/one", ok=204)
    assert cloud("DELETE", "/pileus/nodes/two").status == 404
    assert cloud("PATCH", "/pileus/nodes/one", {"node": {"state": "active"}}).status == 409
    body = {"certificate": {"request": new_request("one")[1].decode()}}
    assert cloud("POST", "/pileus/nodes/one/certificates", body).status == 409
    again = join(cloud, "one", ok=201).json
    assert again["node"]["principal"] != first["node"]["principal"], "what the first one had is not the second one's"
    assert state_of(cloud) == "active"
    assert broker.nodes == ["one"]


def test_a_broker_that_does_not_answer_is_told_later(cloud, broker):
    broker.well = False
    join(cloud, "one", ok=201)
    assert broker.nodes == []
    broker.well = True
    logic.agree(cloud.service)
    assert broker.nodes == ["one"]
    broker.well = False
    answer = cloud("DELETE", "/pileus/nodes/one")
    assert answer.status == 503
    assert "out of the cloud" in message(answer)
    assert state_of(cloud) == "removing"
    with pytest.raises(Unavailable):
        logic.agree(cloud.service)
    broker.well = True
    logic.agree(cloud.service)
    assert (broker.nodes, state_of(cloud)) == ([], "removed")


def test_the_brokers_users_are_made_to_agree_with_the_registry(cloud, broker):
    principal = join(cloud, "one", ok=201).json["node"]["principal"]
    del broker.users[principal]
    broker.users["node-00000000-stranger"] = {}
    logic.agree(cloud.service)
    assert sorted(broker.users) == sorted(["guest", principal]), "and others are left alone"


def test_a_node_is_marked_as_draining_and_back(cloud):
    join(cloud, "one", ok=201)
    cloud("PATCH", "/pileus/nodes/one", {"node": {"state": "draining"}}, ok=200)
    assert state_of(cloud) == "draining"
    cloud("PATCH", "/pileus/nodes/one", {"node": {"state": "active"}}, ok=200)
    assert state_of(cloud) == "active"
    assert cloud("PATCH", "/pileus/nodes/one", {"node": {"state": "removed"}}).status == 400
    assert cloud("PATCH", "/pileus/nodes/two", {"node": {"state": "active"}}).status == 404


def test_a_node_renews_its_own_certificate_and_no_others(cloud):
    service = {"project": {"name": "service", "domain": {"id": "default"}}}
    nodes = {name: join(cloud, name, ok=201).json for name in ("one", "two")}
    own = cloud.token(nodes["one"]["node"]["principal"], nodes["one"]["given"]["password"], service)
    body = {"certificate": {"request": new_request("anything")[1].decode()}}
    made = cloud("POST", "/pileus/nodes/one/certificates", body, token=own, ok=201).json["certificate"]["certificate"].encode()
    assert common_name(made) == nodes["one"]["node"]["principal"], "whatever the request names"
    assert cloud("POST", "/pileus/nodes/two/certificates", body, token=own).status == 403
    shown = cloud("GET", "/pileus/nodes/one").json["node"]["certificate"]
    assert shown["serial"] != nodes["one"]["node"]["certificate"]["serial"]
    for method, path in (("GET", "/pileus/nodes"), ("GET", "/pileus/nodes/one"), ("DELETE", "/pileus/nodes/two"), ("GET", "/users"), ("GET", "/projects")):
        assert cloud(method, path, token=own).status == 403, path


def test_a_node_says_that_it_is_there(cloud):
    join(cloud, "one", ok=201)
    assert cloud.client.call("identity.seen", {"host": "one"}) == {"state": "active"}
    assert cloud("GET", "/pileus/nodes/one").json["node"]["seen_at"] is not None
    assert cloud.client.call("identity.seen", {"host": "two"}) == {"state": "removed"}


def test_the_list_of_nodes_is_one_query_however_long(cloud):
    for name in ("a", "b", "c"):
        join(cloud, name, ok=201)
    with cloud.client.count_queries() as queries:
        listed = cloud("GET", "/pileus/nodes", ok=200).json["nodes"]
    assert [node["name"] for node in listed] == ["a", "b", "c"]
    assert len([query for query in queries if "FROM nodes" in query]) == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"api": {"certificate": "", "key": "", "public_url": "http://cloud.example.test"}}, "pileus tls"),
        ({"bus": {"url": ""}}, "bus.url"),
        ({"bus": {"url": "amqp://guest:guest@one/"}}, "bus.url"),
        ({"bus": {"management": ""}}, "bus.management"),
        ({"api": {"host": "0.0.0.0", "public_url": ""}}, "api.public_url"),
    ],
)
def test_a_cloud_that_cannot_let_nodes_in_says_what_to_do(tmp_path, broker, changes, sentence):
    prepare(tmp_path, broker, **changes)
    made = Identity(home=tmp_path)
    answer = made("POST", "/pileus/node_tokens", {"node_token": {"roles": ["compute"]}})
    assert answer.status == 409
    assert sentence in message(answer)
    made.client.close()


def test_without_the_authority_or_with_anothers_certificate_no_node_is_invited(cloud):
    tls = cloud.service.home / "tls"
    (tls / "server.pem").write_bytes(Authority.make().server("c", ["c"])[1])
    assert "--renew" in message(cloud("POST", "/pileus/node_tokens", {"node_token": {"roles": ["compute"]}}))
    (tls / "ca.key").unlink()
    assert "no authority" in message(cloud("POST", "/pileus/node_tokens", {"node_token": {"roles": ["compute"]}}))
    for body in ({}, {"roles": []}, {"roles": ["king"]}, {"roles": ["compute"], "minutes": 0}):
        assert cloud("POST", "/pileus/node_tokens", {"node_token": body}).status == 400


def test_nodes_come_and_go_on_every_database(tmp_path, broker, database_url):
    prepare(tmp_path, broker)
    made = Identity(home=tmp_path, db_url=database_url)
    secret, answers = invite(made)["secret"], []
    threads = [threading.Thread(target=lambda name=name: answers.append(join(made, name, secret).status)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 401, 401]
    join(made, "one", ok=201)
    made.client.call("identity.seen", {"host": "one"})
    made("DELETE", "/pileus/nodes/one", ok=204)
    join(made, "one", ok=201)
    assert broker.nodes == sorted(["one", *(node["name"] for node in made("GET", "/pileus/nodes").json["nodes"] if node["name"] != "one")])
    made.client.close()
