"""A cloud of two machines: one is the controller, the other joins with a token, runs a server, and is thrown out."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.cli.session import Session, load_config
from pileus.kernel import clock
from tests.brokers import RabbitMQ
from tests.probe.probed import patiently, wait_until
from tools.cloud import TOP, Cloud

pytestmark = pytest.mark.timeout(300)
NAME = "second"
PAGE = TOP / "docs/operate/nodes.md"


def documented(verb: str, **words: str) -> list[str]:
    """The arguments of `pileus node VERB` as the page for operators gives them, with other names."""
    line = next(line.strip() for line in PAGE.read_text().splitlines() if line.strip().startswith(f"pileus node {verb}"))
    return [words.get(word, word) for word in shlex.split(line)[1:]]


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitMQ]:
    broker = RabbitMQ(managed=True)
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def controller(broker: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A controller that is nothing else; its authority is the broker's."""
    cloud = Cloud(tmp_path_factory.mktemp("controller") / "home")
    tls = cloud.home / "tls"
    tls.mkdir(parents=True, mode=0o700)
    for name in ("ca.key", "ca.pem"):
        shutil.copy(broker.folder / name, tls / name)
        (tls / name).chmod(0o600)
    bus = {
        "url": f"amqps://guest:guest@127.0.0.1:{broker.tls_port}/",
        "management": broker.management_url,
        "ca": f"{tls}/ca.pem",
        "certificate": f"{tls}/server.pem",
        "key": f"{tls}/server.key",
    }
    lines = ['[pileus]\nhost = "first"\nroles = ["controller"]', cloud.pileus("tls").stdout, "[bus]"]
    (cloud.home / "pileus.toml").write_text("\n".join([*lines, *(f'{name} = "{value}"' for name, value in bus.items())]))
    try:
        cloud.up()
        yield cloud
    finally:
        cloud.pileus("destroy", "--yes", check=False)


@pytest.fixture(scope="module")
def session(controller: Cloud) -> Session:
    return patiently(lambda: Session(load_config(controller.home), "admin", "admin"))


@pytest.fixture
def joined(controller: Cloud, tmp_path: Path) -> Iterator[Cloud]:
    """A machine that has joined; not up yet."""
    with machine(controller, tmp_path / "home", NAME) as node:
        yield node


@contextlib.contextmanager
def machine(controller: Cloud, home: Path, name: str) -> Iterator[Cloud]:
    node = Cloud(home)
    node.token = controller.pileus(*documented("token")).stdout.strip()
    node.began = clock.monotonic()
    node.pileus(*documented("join", TOKEN=node.token, compute1=name))
    try:
        yield node
    finally:
        node.pileus("destroy", "--yes")
        assert not node.home.exists()
        controller.pileus("node", "remove", name, "--force", check=False)


def nodes(controller: Cloud) -> dict[str, dict]:
    return {entry["name"]: entry for entry in json.loads(controller.pileus("node", "list", "--json").stdout)}


def server_on(session: Session, name: str) -> dict:
    compute, image, network = (getattr(session.clients, kind)(session.context) for kind in ("compute", "image", "network"))
    wanted = {"name": name, "flavorRef": "42", "imageRef": image.get("/v2/images")["images"][0]["id"]}
    if not network.get("/v2.0/networks", query={"name": "of-nodes"})["networks"]:
        made = network.post("/v2.0/networks", {"network": {"name": "of-nodes"}})["network"]["id"]
        network.post("/v2.0/subnets", {"subnet": {"network_id": made, "ip_version": 4, "cidr": "10.7.0.0/24"}})
    port_of = network.get("/v2.0/networks", query={"name": "of-nodes"})["networks"][0]["id"]
    return compute.create_server({**wanted, "networks": [{"uuid": port_of}]})


def test_a_machine_joins_runs_a_server_is_drained_and_removed(controller, session, broker, joined):
    compute = session.clients.compute(session.context)
    joined.up()
    wait_until(lambda: nodes(controller)[NAME]["compute"] == "up", "its hypervisor is there")
    wait_until(lambda: nodes(controller)[NAME]["network"] == "up", "its network agents are heard")
    made = server_on(session, "on-the-node")
    wait_until(lambda: compute.show_server(made["id"])["status"] in {"ACTIVE", "ERROR"}, "the server is built")
    server = compute.show_server(made["id"])
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", NAME), controller.pileus("why", made["id"]).stdout
    assert NAME in controller.pileus(*documented("list")).stdout
    print(f"from join to its first server: {clock.monotonic() - joined.began:.1f} s")

    known = nodes(controller)[NAME]
    assert (known["state"], known["roles"]) == ("active", ["compute", "network"])
    wait_until(lambda: nodes(controller)[NAME]["seen_at"], "it was seen")
    held = {path.relative_to(joined.home).as_posix() for path in joined.home.rglob("*") if path.is_file()}
    assert not [path for path in held if path.startswith(("databases/", "keys/")) and path != "keys/node.json"], "no secret of the cloud"
    assert all((joined.home / path).stat().st_mode & 0o077 == 0 for path in held if path.startswith(("keys/", "tls/", "pileus.toml")))
    assert json.loads(joined.pileus("status", "--json").stdout)["healthy"]
    assert json.loads(joined.pileus("doctor", "--json").stdout)["healthy"]
    assert "holds no password" in joined.pileus("env", check=False).stderr

    pid = joined.supervisor_pid()
    joined.up()
    assert joined.supervisor_pid() == pid, "a second `pileus up` changes nothing"

    before = known["certificate"]["serial"]
    joined.pileus(*documented("renew"))
    assert nodes(controller)[NAME]["certificate"]["serial"] != before

    drained = controller.pileus(*documented("drain", compute1=NAME), check=False)
    assert drained.returncode == 1, "there is no other host"
    assert f"server {made['id']} on-the-node: " in drained.stdout
    assert "1 servers and " in drained.stdout
    service = compute.get("/v2.1/os-services", query={"host": NAME})["services"][0]
    assert (service["status"], service["disabled_reason"], nodes(controller)[NAME]["state"]) == ("disabled", "new disks", "draining")
    refused = controller.pileus("node", "remove", NAME, check=False)
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    compute.delete_server(made["id"])
    wait_until(lambda: not compute.list_servers(all_tenants=1, host=NAME), "the server is gone")

    controller.pileus(*documented("remove", compute1=NAME))
    assert nodes(controller)[NAME]["state"] == "removed"
    assert nodes(controller)[NAME]["compute"] == nodes(controller)[NAME]["network"] == "none"
    assert not compute.get("/v2.1/os-hypervisors")["hypervisors"]
    assert not session.clients.placement(session.context).get("/resource_providers")["resource_providers"]
    assert broker.queue(f"pileus.agent.{NAME}")[1] == 0, "it takes nothing from its queue any more"
    again = joined.pileus("node", "renew", check=False)
    assert again.returncode == 1
    assert "gives" in again.stderr


def test_what_is_on_a_drained_node_goes_to_another(controller, session, joined, tmp_path):
    compute, network = session.clients.compute(session.context), session.clients.network(session.context)
    joined.up()
    wait_until(lambda: nodes(controller)[NAME]["compute"] == nodes(controller)[NAME]["network"] == "up", "the node is heard")
    servers = [server_on(session, f"moves-{number}")["id"] for number in range(3)]
    wait_until(lambda: all(compute.show_server(each)["status"] == "ACTIVE" for each in servers), "the servers are built")
    compute.act(servers[0], "os-stop")
    wait_until(lambda: compute.show_server(servers[0])["status"] == "SHUTOFF", "one is stopped")
    router = network.post("/v2.0/routers", {"router": {"name": "moves"}})["router"]["id"]
    subnet = network.get("/v2.0/subnets", query={"cidr": "10.7.0.0/24"})["subnets"][0]
    network.put(f"/v2.0/routers/{router}/add_router_interface", {"subnet_id": subnet["id"]})

    def serving(what: str) -> set[str]:
        return {agent["host"] for agent in network.get(f"/v2.0/{what}")["agents"]}

    wait_until(lambda: serving(f"routers/{router}/l3-agents") == {NAME}, "the router is there")
    with machine(controller, tmp_path / "third", "third") as third:
        third.up()
        wait_until(lambda: nodes(controller)["third"]["compute"] == nodes(controller)["third"]["network"] == "up", "another node is heard")
        drained = controller.pileus("node", "drain", NAME, "--json")
        found = json.loads(drained.stdout)
        assert found["left"] == []
        ways = {(each["id"], each["how"], each["to"]) for each in found["moved"] if each["kind"] == "server"}
        assert ways == {(servers[0], "cold", "third"), (servers[1], "live", "third"), (servers[2], "live", "third")}
        now = {each: compute.show_server(each) for each in servers}
        assert {each["OS-EXT-SRV-ATTR:host"] for each in now.values()} == {"third"}
        assert [now[each]["status"] for each in servers] == ["SHUTOFF", "ACTIVE", "ACTIVE"]
        assert serving(f"routers/{router}/l3-agents") == {"third"}
        assert serving(f"networks/{subnet['network_id']}/dhcp-agents") == {"third"}

        again = controller.pileus("node", "drain", NAME)
        assert "Nothing is left" in again.stderr
        controller.pileus("node", "drain", NAME, "--undo")
        agents = network.get("/v2.0/agents", query={"host": NAME})["agents"]
        assert all(agent["admin_state_up"] for agent in agents)
        network.put(f"/v2.0/routers/{router}/remove_router_interface", {"subnet_id": subnet["id"]})
        network.delete(f"/v2.0/routers/{router}")
        for each in servers:
            compute.delete_server(each)
        wait_until(lambda: not compute.list_servers(all_tenants=1), "the servers are gone")


def test_a_token_is_good_once_and_only_for_who_made_it(controller, joined, tmp_path):
    other = Cloud(tmp_path / "other")
    used = other.pileus("node", "join", joined.token, check=False)
    assert (used.returncode, "was used" in used.stderr) == (1, True)
    assert not other.home.exists(), "nothing is left of a join that failed"
    again = joined.pileus("node", "join", joined.token, check=False)
    assert "a cloud or a node" in again.stderr
    from pileus.cli.join import Token

    token = Token.parse(controller.pileus("node", "token").stdout)
    forged = Token(token.url, "0" * 64, token.secret)
    assert "not who made the token" in other.pileus("node", "join", forged.text(), check=False).stderr
    assert "no token" in other.pileus("node", "join", "nonsense", check=False).stderr
    assert set(nodes(controller)) >= {NAME}
