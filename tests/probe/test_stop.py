"""`pileus down` in the middle of work: what is being answered is answered, flows are handed over, and nothing has to be killed."""

from __future__ import annotations

import concurrent.futures
import json
import queue
from collections.abc import Iterator

import pytest
from pileus.clients.base import PeerError
from pileus.kernel import clock
from pileus.kernel.errors import Failure

from tests.probe.probed import Probed, wait_until
from tools.cloud import ThrowAway

pytestmark = pytest.mark.timeout(300)
SLOW = '[api]\nstop_seconds = 20\n[compute.fake_latency]\ncreate = 3.0\nconsole = 3.0\n'


@pytest.fixture(scope="module")
def slow() -> Iterator[Probed]:
    with ThrowAway(toml=SLOW) as cloud:
        yield Probed(cloud)


@pytest.fixture
def aside() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield pool


def stopping(probed: Probed) -> bool:
    """Nobody is let in any more."""
    try:
        probed.session.clients.image(probed.session.context).get("/v2/images", query={"limit": 1})
    except Failure as failure:
        return failure.status == 503
    return False


def killed(probed: Probed) -> list[str]:
    """What the supervisor had to kill, ever."""
    log = probed.home / "logs/supervisor.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [message for message in (json.loads(line)["message"] for line in lines) if "is killed" in message]


def new_image(probed: Probed) -> str:
    image = probed.session.clients.image(probed.session.context)
    return str(image.post("/v2/images", {"name": "slow", "disk_format": "raw", "container_format": "bare"})["id"])


def upload(probed: Probed, image_id: str, pieces: Iterator[bytes]) -> None:
    image = probed.session.clients.image(probed.session.context)
    image.request("PUT", f"/v2/images/{image_id}/file", pieces, headers={"Content-Type": "application/octet-stream"}).read()


def image_status(probed: Probed, image_id: str) -> str:
    return str(probed.session.clients.image(probed.session.context).get(f"/v2/images/{image_id}")["status"])


def test_an_upload_under_way_is_finished_and_answered(slow, aside):
    image_id, pieces = new_image(slow), queue.SimpleQueue()
    told = aside.submit(upload, slow, image_id, iter(pieces.get, b""))
    pieces.put(bytes(1 << 20))
    wait_until(lambda: image_status(slow, image_id) == "saving", "the upload has begun")
    down = aside.submit(slow.cloud.down)
    wait_until(lambda: stopping(slow), "the API takes no more")
    assert not told.done() and not down.done()
    for _ in range(3):
        pieces.put(bytes(1 << 20))
    pieces.put(b"")
    told.result(60)  # raises unless it was acknowledged
    down.result(90)
    assert not killed(slow)
    slow.cloud.up()
    image = slow.session.clients.image(slow.session.context).get(f"/v2/images/{image_id}")
    assert (image["status"], image["size"]) == ("active", 4 << 20)


def test_an_upload_that_stalls_is_broken_off_in_time_and_leaves_nothing(slow, aside):
    image_id, pieces = new_image(slow), queue.SimpleQueue()
    before = slow.image_files()
    told = aside.submit(upload, slow, image_id, iter(pieces.get, b""))
    pieces.put(bytes(1 << 20))
    wait_until(lambda: image_status(slow, image_id) == "saving", "the upload has begun")
    slow.cloud.down()
    pieces.put(b"")
    with pytest.raises(PeerError):
        told.result(60)
    assert not killed(slow), "its thread did not wait for what never comes"
    assert slow.image_files() == before
    slow.cloud.up()
    assert image_status(slow, image_id) == "queued", "it can be filled again"


def test_a_request_that_waits_for_a_host_is_answered_and_a_step_under_way_ends(slow, aside):
    compute = slow.session.clients.compute(slow.session.context)
    headers = {"OpenStack-API-Version": "compute 2.37"}
    image = slow.session.clients.image(slow.session.context).get("/v2/images", query={"name": "guest"})["images"][0]["id"]
    body = {"server": {"name": "slow", "imageRef": image, "flavorRef": "42", "networks": "none"}}
    status = lambda server: compute.get(f"/v2.1/servers/{server}")["server"]["status"]  # noqa: E731
    first = compute.post("/v2.1/servers", body, headers=headers)["server"]["id"]
    wait_until(lambda: status(first) == "ACTIVE", "the first server is built")
    console = aside.submit(compute.post, f"/v2.1/servers/{first}/action", {"os-getConsoleOutput": {}})
    second = compute.post("/v2.1/servers", body, headers=headers)["server"]["id"]
    running = "SELECT count(*) FROM flow_steps WHERE name = 'spawn' AND state = 'started'"
    wait_until(lambda: slow.rows("compute", running) == [(1,)], "the step that takes long is under way")
    slow.cloud.down()
    assert "Booting simulated guest" in console.result(60)["output"]
    assert not killed(slow)
    query = f"SELECT s.name, s.state, s.attempts FROM flow_steps s JOIN flows f ON f.id = s.flow_id WHERE f.resource_id = '{second}'"
    steps = {name: (state, attempts) for name, state, attempts in slow.rows("compute", query)}
    assert steps["spawn"] == ("done", 1), "the step ended and was recorded"
    assert slow.rows("compute", "SELECT worker_id FROM flows WHERE worker_id IS NOT NULL") == [], "nobody holds a flow"
    assert slow.rows("compute", "SELECT id FROM flow_workers") == [], "nobody has to wait for a lease"
    slow.cloud.up()
    wait_until(lambda: status(second) == "ACTIVE", "the second is built to its end", explain=lambda: slow.why([{"id": second}]))
    steps = {name: (state, attempts) for name, state, attempts in slow.rows("compute", query)}
    assert steps["spawn"] == ("done", 1), "and nothing was done twice"


def test_an_idle_cloud_stops_at_once(slow):
    before = clock.monotonic()
    slow.cloud.down()
    assert clock.monotonic() - before < 20, "nobody is waited for"
    slow.cloud.up()
