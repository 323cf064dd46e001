"""Two controllers of one cloud: started at once, killed, stopped in order, brought back; their token keys rotated meanwhile."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import urllib3
from pileus.cli.session import Session, load_config

from tests.controllers import Controllers, gone
from tests.probe.probed import Probed, wait_until
from tests.probe.test_kills import create, delete_all, dhcp_is_there, mine
from tools.cloud import Cloud, CommandFailed, free_port

pytestmark = pytest.mark.timeout(400)
AT_ONCE = 10


@pytest.fixture(scope="module")
def both() -> Iterator[Controllers]:
    with Controllers(2) as controllers:
        yield controllers


@pytest.fixture(scope="module")
def built(both) -> Probed:
    return with_network(both)


@pytest.fixture
def probed(both, built) -> Probed:
    built.session = both.session()  # anew, because keys are rotated here
    return built


def with_network(both: Controllers) -> Probed:
    """The cloud as clients reach it, with an image and a network to build on."""
    probed = both.probed()
    probed.session = session = both.session()
    more = {"instances": 1000, "cores": 1000, "ram": 1_000_000}
    session.clients.compute(session.context).put(f"/v2.1/os-quota-sets/{session.context.project_id}", {"quota_set": more})
    probed.image = session.clients.image(session.context).get("/v2/images", query={"name": "guest"})["images"][0]["id"]
    network = session.clients.network(session.context)
    probed.network = network.post("/v2.0/networks", {"network": {"name": "probed"}})["network"]["id"]
    network.post("/v2.0/subnets", {"subnet": {"network_id": probed.network, "ip_version": 4, "cidr": "10.7.0.0/24"}})
    wait_until(lambda: dhcp_is_there(probed, probed.network), "the network has its DHCP port")
    return probed


def traces(both: Controllers, probed: Probed) -> dict[str, object]:
    return {**probed.traces(), "guests": both.guests()}


def ended(probed: Probed, prefix: str, *, but: str = "") -> bool:
    """Whether the servers have a state that lasts, those on one host excepted."""
    waiting = [server for server in mine(probed, prefix) if server["status"] not in {"ACTIVE", "ERROR"}]
    return all(but and server["OS-EXT-SRV-ATTR:host"] == but for server in waiting)


def until_gone(both: Controllers, probed: Probed, prefix: str, before: dict[str, object]) -> None:
    delete_all(probed, prefix)
    wait_until(lambda: not mine(probed, prefix), "every server is gone", explain=lambda: probed.why(mine(probed, prefix)))
    wait_until(
        lambda: traces(both, probed) == before, "nothing is left over", explain=lambda: f"{before}\n{traces(both, probed)}"
    )


@contextmanager
def reading(both: Controllers) -> Iterator[list[str]]:
    """Somebody lists servers through HAProxy all the time, and tries nothing twice; what went wrong."""
    session, wrong, over = both.session(), [], threading.Event()
    pool = urllib3.PoolManager(retries=False, ca_certs=str(both.folder / "ca.pem"), maxsize=2)
    asked = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answer = pool.request(
                "GET", f"{both.url}/compute/v2.1/servers/detail", headers={"X-Auth-Token": session.context.token}, timeout=30.0
            )
            if answer.status != 200:
                wrong.append(f"{answer.status} {answer.data[:200]!r}")
            asked.set()

    thread = threading.Thread(target=ask)
    thread.start()
    assert asked.wait(30)
    try:
        yield wrong
    finally:
        over.set()
        thread.join()


def token_of(both: Controllers, number: int) -> str:
    """A new token from one controller."""
    return str(Session(load_config(both.clouds[number].home), "admin", "admin").context.token)


def accepts(both: Controllers, number: int, token: str) -> bool:
    """Whether one controller takes the token."""
    url = f"http://127.0.0.1:{both.clouds[number].port}/identity/v3/auth/tokens"
    return urllib3.request("GET", url, headers={"X-Auth-Token": token, "X-Subject-Token": token}, timeout=30.0).status == 200


# --- together ---


def test_controllers_that_start_at_once_make_one_cloud(both, probed):
    session = probed.session
    flavors = session.clients.compute(session.context).get("/v2.1/flavors")["flavors"]
    assert len(flavors) == len({flavor["name"] for flavor in flavors}) == 7
    network = session.clients.network(session.context)
    for name in ("public", "private"):
        assert len(network.get("/v2.0/networks", query={"name": name})["networks"]) == 1
    assert len(network.get("/v2.0/subnets", query={"name": "private-subnet"})["subnets"]) == 1
    assert len(session.clients.image(session.context).get("/v2/images")["images"]) == 1
    homes = [cloud.home for cloud in both.clouds]
    for file in ("passwords.json", "metadata-secret", "demo_ed25519"):
        first, second = ((home / "keys" / file).read_bytes() for home in homes)
        if file == "passwords.json":
            first, second = json.loads(first), json.loads(second)
        assert first == second, file
    assert not [home for home in homes if (home / "keys" / "fernet").exists()], "token keys are in the database alone"
    for cloud in both.clouds:
        assert Session(load_config(cloud.home), "demo", "demo").context.project_id
    hosts = probed.rows("compute", "SELECT DISTINCT host FROM services")
    assert [host for (host,) in hosts] == ["controller-1", "controller-2"]


def test_links_and_catalog_name_the_address_of_the_proxy(both, probed):
    catalog = probed.session.clients.identity(probed.session.context).get("/v3/auth/catalog")["catalog"]
    assert {endpoint["url"].startswith(both.url) for service in catalog for endpoint in service["endpoints"]} == {True}
    pool = urllib3.PoolManager(ca_certs=str(both.folder / "ca.pem"))
    versions = json.loads(pool.request("GET", f"{both.url}/identity/").data)["versions"]["values"]
    assert all(link["href"].startswith(both.url) for version in versions for link in version["links"])


def test_a_controller_that_has_the_name_of_another_is_refused(both):
    secret = (both.clouds[0].home / "keys" / "installation-secret").read_bytes()
    impostor = both.prepared(9, both.clouds[0].port + 1, secret, name="controller-1")
    with pytest.raises(CommandFailed, match="calls itself controller-1 runs already"):
        impostor.up()


def test_a_third_controller_joins_with_a_token_works_like_the_others_and_is_removed(both, probed):
    third = Cloud(both.folder / "controller-3", port=free_port())
    token = both.clouds[1].pileus("node", "token", "--roles", "controller,compute,network").stdout.strip()
    try:
        joined = third.pileus("node", "join", token, "--name", "controller-3")
        assert "tell the load balancer" in joined.stderr
        files = [path for path in third.home.rglob("*") if path.is_file()]
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
        assert "--roles" not in (third.home / "pileus.toml").read_text()
        third.up()
        listed = {node["name"]: node for node in json.loads(third.pileus("node", "list", "--json").stdout)}
        assert set(listed) >= {"controller-1", "controller-2", "controller-3"}
        assert {node["state"] for node in listed.values()} == {"active"}
        url = f"http://127.0.0.1:{third.port}/identity/v3/auth/tokens"
        for number in (0, 1):
            token = token_of(both, number)
            assert urllib3.request("GET", url, headers={"X-Auth-Token": token, "X-Subject-Token": token}, timeout=30.0).status == 200
        assert accepts(both, 0, str(Session(load_config(third.home), "admin", "admin").context.token))
        query = "SELECT DISTINCT host FROM flow_workers"
        assert ("controller-3",) in probed.rows("compute", query), "it works on flows"
        pid = third.supervisor_pid()
        both.clouds[0].pileus("node", "remove", "controller-3")
        wait_until(lambda: gone(pid), "it stops by itself", seconds=60)
        with pytest.raises(CommandFailed, match="controller-3 was removed from this cloud"):
            third.up()
    finally:
        third.pileus("down", "--guests", check=False)
        both.clouds[0].pileus("node", "remove", "controller-3", "--force", check=False)


# --- token keys ---


def test_rotations_from_any_controller_leave_no_token_invalid(both):
    over, refused, seen = threading.Event(), [], []

    def watch(giver: int, reader: int) -> None:
        while not over.is_set():
            token = token_of(both, giver)
            seen.append(giver)
            if not accepts(both, reader, token):
                refused.append((giver, reader))

    watchers = [threading.Thread(target=watch, args=pair) for pair in ((0, 1), (1, 0))]
    for watcher in watchers:
        watcher.start()
    try:
        for number in (0, 1, 0):
            both.clouds[number].pileus("keys", "rotate")
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()
    assert not refused
    assert set(seen) == {0, 1}


def test_a_controller_that_slept_through_rotations_signs_with_the_newest_key(both):
    old = token_of(both, 0)
    assert accepts(both, 0, old)
    workers = ("api-0", "api-1")
    both.signal(0, signal.SIGSTOP, *workers)
    try:
        both.clouds[1].pileus("keys", "rotate")
        assert accepts(both, 1, old)
        both.clouds[1].pileus("keys", "rotate")
        new = token_of(both, 1)
    finally:
        both.signal(0, signal.SIGCONT, *workers)
    assert accepts(both, 0, new)
    for number in (0, 1):
        assert not accepts(both, number, old), "its key is gone after two rotations, on every machine"
    for _ in range(4):  # both workers
        assert accepts(both, 1, token_of(both, 0))


# --- lost and found ---


def test_a_killed_controllers_builds_are_finished_by_the_other(both, probed):
    before = traces(both, probed)
    askers = [threading.Thread(target=create, args=(probed, f"lost-{number}")) for number in range(AT_ONCE)]
    at_work: list[tuple[object, ...]] = []
    query = (
        "SELECT w.host, f.id FROM flows f JOIN flow_workers w ON w.id = f.worker_id"
        " WHERE f.state = 'running' AND f.kind = 'build_server' ORDER BY w.host"
    )
    with reading(both) as wrong:
        for asker in askers:
            asker.start()
        wait_until(lambda: bool(at_work.extend(probed.rows("compute", query)) or at_work), "somebody builds")
        lost = str(at_work[0][0])
        number = int(lost[-1]) - 1
        other = f"controller-{2 - number}"
        both.kill(number)
        for asker in askers:
            asker.join()
        wait_until(lambda: len(mine(probed, "lost-")) == AT_ONCE, "every server that was asked for is known")
        wait_until(
            lambda: ended(probed, "lost-", but=lost),
            "every server that is not on the lost machine is ACTIVE or ERROR",
            explain=lambda: probed.why(mine(probed, "lost-")),
        )
        assert not probed.rows("compute", f"SELECT id FROM flow_workers WHERE host = '{lost}'"), "its leases are gone"
        both.clouds[1 - number].pileus("keys", "rotate")
    assert not wrong
    compute = probed.session.clients.compute(probed.session.context)
    compute.delete("/v2.1/flavors/5")
    (both.clouds[number].home / "initial.json").unlink()
    both.all_up()
    assert accepts(both, number, token_of(both, 1 - number))
    assert accepts(both, 1 - number, token_of(both, number))
    assert "5" not in {flavor["id"] for flavor in compute.get("/v2.1/flavors")["flavors"]}, "first content is made once"
    wait_until(lambda: ended(probed, "lost-"), "every server is ACTIVE or ERROR", explain=lambda: probed.why(mine(probed, "lost-")))
    for server in mine(probed, "lost-"):
        assert server["status"] == "ACTIVE" or server["fault"]["message"], server
    assert {(host,) for host, _ in at_work} | set(probed.rows("compute", "SELECT DISTINCT host FROM flow_steps")) >= {(other,)}
    until_gone(both, probed, "lost-", before)


def test_a_controller_is_stopped_in_order_without_a_failed_request(both, probed):
    before = traces(both, probed)
    compute = probed.session.clients.compute(probed.session.context)
    body = {"imageRef": probed.image, "flavorRef": "42", "networks": [{"uuid": probed.network}]}
    asked = 0
    with reading(both) as wrong:
        stopper = threading.Thread(target=both.clouds[0].down)
        stopper.start()
        while stopper.is_alive() and asked < 30:
            compute.post("/v2.1/servers", {"server": {**body, "name": f"calm-{asked}"}})  # raises when it fails
            asked += 1
        stopper.join()
    assert not wrong
    assert len(mine(probed, "calm-")) == asked > 1
    assert probed.rows("identity", "SELECT host FROM controllers WHERE home <> ''") == [("controller-2",)]
    on_stopped = "controller-1"
    wait_until(
        lambda: ended(probed, "calm-", but=on_stopped), "what was asked is done", explain=lambda: probed.why(mine(probed, "calm-"))
    )
    both.all_up()
    wait_until(lambda: ended(probed, "calm-"), "every server is done", explain=lambda: probed.why(mine(probed, "calm-")))
    until_gone(both, probed, "calm-", before)


# --- on the other database ---


def test_two_controllers_on_mariadb_build_and_delete_a_server():
    with Controllers(2, "mariadb") as both:
        probed = with_network(both)
        before = traces(both, probed)
        for number in (0, 1):
            both.clouds[number].pileus("keys", "rotate")
            assert accepts(both, 1 - number, token_of(both, number))
        probed.session = both.session()  # the key of the first one is gone after two rotations
        for number in range(3):
            create(probed, f"maria-{number}")
        wait_until(lambda: ended(probed, "maria-"), "the servers are built", explain=lambda: probed.why(mine(probed, "maria-")))
        assert {server["status"] for server in mine(probed, "maria-")} == {"ACTIVE"}
        until_gone(both, probed, "maria-", before)


# --- three of each ---


def test_three_controllers_with_three_brokers_lose_one_of_each_at_once():
    with Controllers(3, clustered=True) as all_three:
        probed = with_network(all_three)
        before = traces(all_three, probed)
        askers = [threading.Thread(target=create, args=(probed, f"three-{number}")) for number in range(AT_ONCE)]
        with reading(all_three) as wrong:
            for asker in askers:
                asker.start()
            wait_until(lambda: len(mine(probed, "three-")) >= 3, "some are asked for")
            all_three.broker.brokers[0].kill()
            all_three.kill(2)
            for asker in askers:
                asker.join()
            wait_until(lambda: len(mine(probed, "three-")) == AT_ONCE, "every server that was asked for is known")
            wait_until(
                lambda: ended(probed, "three-", but="controller-3"),
                "every server that is not on the lost machine is ACTIVE or ERROR",
                explain=lambda: probed.why(mine(probed, "three-")),
            )
        assert not wrong
        all_three.broker.start(all_three.broker.brokers[0])
        all_three.all_up()
        wait_until(lambda: ended(probed, "three-"), "every server is done", explain=lambda: probed.why(mine(probed, "three-")))
        until_gone(all_three, probed, "three-", before)
