"""`pileus why` for everything that it promises to explain, on a cloud of real processes: who asked, what was done, what comes next."""

from __future__ import annotations

import json

import pytest

from tests.probe.probed import wait_until
from tests.probe.test_kills import create, delete_all, mine, ready, settled  # noqa: F401 - a fixture among them


@pytest.fixture
def server(ready):  # noqa: F811
    create(ready, "explained")
    wait_until(lambda: settled(ready, "explained"), "the server is built")
    yield mine(ready, "explained")[0]["id"]
    delete_all(ready, "explained")
    wait_until(lambda: not mine(ready, "explained"), "the server is gone")


def why(probed, id):
    told = json.loads(probed.cloud.pileus("why", id, "--json").stdout)
    return told, probed.cloud.pileus("why", id).stdout


def asked(told, message):
    (request,) = [entry for entry in told["requests"] if entry["message"].startswith(message)]
    return request


def test_a_server(ready, server):  # noqa: F811
    told, text = why(ready, server)
    (resource,) = told["resources"]
    assert (resource["kind"], resource["next"]) == ("server", "nothing is waited for")
    assert resource["now"].startswith("ACTIVE on ")
    request = asked(told, "POST")
    assert request["user_id"] == ready.session.context.user_id
    (flow,) = told["flows"]
    assert flow["asked_by"]["request_id"] == request["request_id"]
    assert [(step["name"], step["state"]) for step in flow["steps"]] == [(name, "done") for name in ("claim", "ports", "spawn", "activate")]
    for words in (f"server {server}: ACTIVE", f"request {request['request_id']}", "claim", "done on", "done at"):
        assert words in text


def test_a_server_that_failed_says_why_and_one_that_is_gone_who_deleted_it(ready, server):  # noqa: F811
    compute = ready.session.clients.compute(ready.session.context)
    body = {"flavor": {"name": "huge", "id": "huge", "ram": 1 << 24, "vcpus": 1, "disk": 1}}
    compute.post("/v2.1/flavors", body)
    limits = {"quota_set": {"ram": -1}}
    compute.put(f"/v2.1/os-quota-sets/{ready.session.context.project_id}", limits)
    body = {"name": "explained-huge", "imageRef": ready.image, "flavorRef": "huge", "networks": [{"uuid": ready.network}]}
    huge = compute.post("/v2.1/servers", {"server": body})["server"]["id"]
    wait_until(lambda: settled(ready, "explained"), "the build has failed")
    told, text = why(ready, huge)
    assert told["resources"][0]["now"].startswith("ERROR on no host; its fault: ")
    assert told["flows"][0]["state"] == "failed"
    assert f"given up at {told['flows'][0]['finished_at'][11:19]} and undone: {told['flows'][0]['error']}" in text
    compute.delete(f"/v2.1/servers/{huge}")
    wait_until(lambda: why(ready, huge)[0]["resources"][0]["now"].startswith("deleted at "), "it is gone")
    told, _ = why(ready, huge)
    assert asked(told, "DELETE")["user_id"] == ready.session.context.user_id
    assert [flow["kind"] for flow in told["flows"]] == ["build_server", "delete_server"]


def test_a_flow(ready, server):  # noqa: F811
    flow_id = why(ready, server)[0]["flows"][0]["id"]
    told, text = why(ready, flow_id)
    assert [(flow["id"], flow["kind"], flow["resource_id"]) for flow in told["flows"]] == [(flow_id, "build_server", server)]
    assert asked(told, "POST")["resource"] == server, "the request behind it is told too"
    assert f"build_server ({flow_id})" in text


def test_a_port_with_the_work_on_its_server(ready, server):  # noqa: F811
    network = ready.session.clients.network(ready.session.context)
    port = network.get("/v2.0/ports", query={"device_id": server})["ports"][0]["id"]
    told, text = why(ready, port)
    assert [resource["kind"] for resource in told["resources"]] == ["port", "server"]
    assert told["resources"][0]["now"].startswith("ACTIVE, bound to ")
    assert server in told["resources"][0]["now"]
    assert [flow["kind"] for flow in told["flows"]] == ["build_server"]
    assert asked(told, "POST /v2.0/ports")["global_request_id"] == told["flows"][0]["asked_by"]["request_id"], "who asked for the server asked for it"
    assert f"port {port}: ACTIVE" in text


def test_a_port_that_waits_says_for_what(ready):  # noqa: F811
    network = ready.session.clients.network(ready.session.context)
    body = {"network_id": ready.network, "binding:host_id": "nowhere", "name": "waits"}
    port = network.post("/v2.0/ports", {"port": body})["port"]["id"]
    told, _ = why(ready, port)
    (resource,) = told["resources"]
    assert "bound to nowhere" in resource["now"]
    assert "no agent has ever reported from there" in resource["next"]
    network.delete(f"/v2.0/ports/{port}")
    told, _ = why(ready, port)
    assert not told["resources"], "there is no such port any more"
    assert [entry["message"].split()[0] for entry in told["requests"]] == ["POST", "DELETE"], "but what happened to it is known"


def test_an_image(ready):  # noqa: F811
    image = ready.session.clients.image(ready.session.context)
    made = image.post("/v2/images", {"name": "explained", "disk_format": "raw", "container_format": "bare"})["id"]
    told, _ = why(ready, made)
    assert (told["resources"][0]["kind"], told["resources"][0]["next"]) == ("image", "waits for its data to be uploaded")
    headers = {"Content-Type": "application/octet-stream"}
    image.request("PUT", f"/v2/images/{made}/file", b"data", headers=headers).read()
    told, text = why(ready, made)
    assert told["resources"][0]["now"].startswith("active, 4 bytes")
    assert [entry["message"].split()[0] for entry in told["requests"]] == ["POST", "PUT"]
    assert "nothing is waited for" in text
    image.delete(f"/v2/images/{made}")


def test_what_is_not_known_is_said_so(ready):  # noqa: F811
    answer = ready.cloud.pileus("why", "no-such-thing", check=False)
    assert answer.returncode == 1
    assert "No work on no-such-thing is recorded here." in answer.stderr + answer.stdout
