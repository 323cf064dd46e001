"""Power, locks, rebuilds and the other actions of servers."""

from __future__ import annotations

import pytest

from pileus.kernel.testing import ADMIN, MEMBER, READER
from tests.api.compute.world import DEFAULT_GROUP, IMAGE, WEB_GROUP


def states(world, server_id):
    server = world.server(server_id)
    return server["status"], server["OS-EXT-STS:vm_state"], server["OS-EXT-STS:task_state"], server["OS-EXT-STS:power_state"]


@pytest.fixture
def server(world):
    return world.boot()


def test_stop_and_start(world, server):
    world.act(server, "os-stop", settle=False)
    assert states(world, server)[:3] == ("ACTIVE", "active", "powering-off")
    world.settle()
    assert states(world, server) == ("SHUTOFF", "stopped", None, 4)
    assert world.hosts["host1"].state(server) == "shutdown"
    refused = world.act(server, "os-stop", ok=409)
    assert refused.json["conflictingRequest"]["message"] == f"Cannot 'stop' instance {server} while it is in vm_state stopped"
    world.act(server, "os-start")
    assert states(world, server) == ("ACTIVE", "active", None, 1)


@pytest.mark.parametrize("kind", ["SOFT", "HARD"])
def test_reboot(world, server, kind):
    world.act(server, "reboot", {"type": kind}, settle=False)
    assert states(world, server)[0] == ("REBOOT" if kind == "SOFT" else "HARD_REBOOT")
    world.settle()
    assert states(world, server) == ("ACTIVE", "active", None, 1)


def test_reboot_needs_a_known_type(world, server):
    world.act(server, "reboot", {"type": "gentle"}, ok=400)
    world.act(server, "reboot", {}, ok=400)


def test_pause_and_suspend(world, server):
    world.act(server, "pause")
    assert states(world, server) == ("PAUSED", "paused", None, 3)
    world.act(server, "os-stop", ok=409)
    world.act(server, "unpause")
    assert states(world, server) == ("ACTIVE", "active", None, 1)
    world.act(server, "suspend")
    assert states(world, server) == ("SUSPENDED", "suspended", None, 7)
    world.act(server, "resume")
    assert states(world, server) == ("ACTIVE", "active", None, 1)


def test_while_one_task_runs_another_is_refused(world, server):
    world.act(server, "pause", settle=False)
    refused = world.act(server, "os-stop", ok=409, settle=False)
    assert refused.json["conflictingRequest"]["message"] == f"Cannot 'stop' instance {server} while it is in task_state pausing"


def test_a_lock_holds_for_all_but_administrators(world, server):
    world.act(server, "lock", {"locked_reason": "mine"}, v="2.73")
    shown = world.server(server)
    assert shown["locked"] is True and shown["locked_reason"] == "mine"
    refused = world.act(server, "os-stop", ok=409)
    assert refused.json["conflictingRequest"]["message"] == f"Instance {server} is locked"
    world("DELETE", f"/servers/{server}", ok=409)
    world("PUT", f"/servers/{server}/metadata", {"metadata": {}}, ok=409)
    world.act(server, "os-stop", as_=ADMIN)
    assert states(world, server)[0] == "SHUTOFF"
    world.act(server, "unlock")
    world.act(server, "lock", as_=ADMIN)
    world.act(server, "unlock", ok=403)
    world.act(server, "unlock", as_=ADMIN)
    assert world.server(server)["locked"] is False


def test_an_administrator_resets_states(world, server):
    world.act(server, "os-resetState", {"state": "error"}, ok=403)
    world.act(server, "os-resetState", {"state": "error"}, as_=ADMIN)
    assert states(world, server)[0] == "ERROR"
    world.act(server, "os-resetState", {"state": "active"}, as_=ADMIN)
    assert states(world, server)[0] == "ACTIVE"
    world.act(server, "os-resetState", {"state": "odd"}, as_=ADMIN, ok=400)


def test_the_console_is_read(world, server):
    whole = world.act(server, "os-getConsoleOutput", {}, ok=200).json["output"]
    assert whole
    last = world.act(server, "os-getConsoleOutput", {"length": 1}, ok=200).json["output"]
    assert whole.endswith(last) and last.count("\n") == 0
    world.act(server, "os-getConsoleOutput", {"length": "x"}, ok=400)
    world.act(server, "os-getConsoleOutput", {}, as_=READER, ok=403)


def test_security_groups_are_put_on_and_taken_off(world, server):
    port = next(iter(world.networks.ports.values()))
    world.act(server, "addSecurityGroup", {"name": "web"})
    assert port["security_groups"] == [DEFAULT_GROUP, WEB_GROUP]
    assert world.server(server)["security_groups"] == [{"name": "default"}, {"name": "web"}]
    listed = world("GET", f"/servers/{server}/os-security-groups", ok=200).json["security_groups"]
    assert sorted(g["name"] for g in listed) == ["default", "web"]
    world.act(server, "removeSecurityGroup", {"name": "web"})
    assert port["security_groups"] == [DEFAULT_GROUP]
    world.act(server, "removeSecurityGroup", {"name": "web"}, ok=404)
    world.act(server, "addSecurityGroup", {"name": "none-such"}, ok=404)


def test_a_rebuild_keeps_addresses_and_power(world, server):
    before = world.server(server)["addresses"]
    made = world.act(server, "rebuild", {"imageRef": IMAGE, "name": "again", "metadata": {"x": "y"}}, v="2.90", settle=False)
    assert made.json["server"]["status"] == "REBUILD" and made.json["server"]["adminPass"]
    world.settle()
    after = world.server(server)
    assert (after["status"], after["name"], after["metadata"], after["addresses"]) == ("ACTIVE", "again", {"x": "y"}, before)
    world.act(server, "os-stop")
    world.act(server, "rebuild", {"imageRef": IMAGE}, v="2.90")
    assert states(world, server) == ("SHUTOFF", "stopped", None, 4)


def test_what_is_not_done_is_refused_with_a_sentence(world, server):
    for action, body in (("resize", {"flavorRef": "small"}), ("createImage", {"name": "x"}), ("shelve", None), ("rescue", None), ("changePassword", {"adminPass": "x"})):
        refused = world.act(server, action, body, ok=400)
        assert refused.json["badRequest"]["message"]
    assert "no such action" in world.act(server, "dance", ok=400).json["badRequest"]["message"]
    world.act(server, "os-getVNCConsole", {"type": "novnc"}, v="2.5", ok=400)


def test_force_delete_deletes(world, server):
    world.act(server, "forceDelete")
    world("GET", f"/servers/{server}", ok=404)


def test_the_diary_tells_who_did_what(world, server):
    world.act(server, "os-stop")
    listed = world("GET", f"/servers/{server}/os-instance-actions", v="2.58", ok=200).json["instanceActions"]
    assert [a["action"] for a in listed] == ["stop", "create"]
    assert all(a["user_id"] == MEMBER.user_id and a["request_id"].startswith("req-") for a in listed)
    one = world("GET", f"/servers/{server}/os-instance-actions/{listed[0]['request_id']}", v="2.62", ok=200).json["instanceAction"]
    assert [(e["event"], e["result"]) for e in one["events"]] == [("compute_stop_instance", "Success")]
    assert "host" not in one["events"][0] and one["events"][0]["hostId"]
    world("GET", f"/servers/{server}/os-instance-actions/req-none", ok=404)
    paged = world("GET", f"/servers/{server}/os-instance-actions?limit=1", v="2.58", ok=200).json
    assert len(paged["instanceActions"]) == 1 and paged["links"]


def test_metadata_items(world, server):
    path = f"/servers/{server}/metadata"
    assert world("POST", path, {"metadata": {"a": "1", "b": "2"}}, ok=200).json == {"metadata": {"a": "1", "b": "2"}}
    assert world("PUT", path, {"metadata": {"b": "3"}}, ok=200).json == {"metadata": {"b": "3"}}
    assert world("PUT", f"{path}/c", {"meta": {"c": "4"}}, ok=200).json == {"meta": {"c": "4"}}
    assert world("GET", f"{path}/c", ok=200).json == {"meta": {"c": "4"}}
    world("PUT", f"{path}/c", {"meta": {"d": "4"}}, ok=400)
    world("DELETE", f"{path}/c", ok=204)
    world("GET", f"{path}/c", ok=404)
    world("DELETE", f"{path}/c", ok=404)
    assert world("POST", path, {"metadata": {f"k{n}": "v" for n in range(129)}}).status == 403
    world("POST", path, {"metadata": {"a": 1}}, ok=400)


def test_tags(world, server):
    path = f"/servers/{server}/tags"
    world("GET", path, v="2.25", ok=404)
    assert world("PUT", path, {"tags": ["b", "a"]}, v="2.26", ok=200).json == {"tags": ["a", "b"]}
    made = world("PUT", f"{path}/c", v="2.26", ok=201)
    assert made.headers["location"].endswith("/tags/c")
    world("PUT", f"{path}/c", v="2.26", ok=204)
    world("GET", f"{path}/c", v="2.26", ok=204)
    world("GET", f"{path}/zz", v="2.26", ok=404)
    world("DELETE", f"{path}/c", v="2.26", ok=204)
    world("DELETE", f"{path}/c", v="2.26", ok=404)
    world("PUT", path, {"tags": [f"t{n}" for n in range(51)]}, v="2.26", ok=400)
    world("DELETE", path, v="2.26", ok=204)
    assert world("GET", path, v="2.26", ok=200).json == {"tags": []}


def test_addresses_and_cards(world, server):
    assert world("GET", f"/servers/{server}/ips", ok=200).json == {"addresses": {"private": [{"version": 4, "addr": "10.0.0.10"}]}}
    assert world("GET", f"/servers/{server}/ips/private", ok=200).json == {"private": [{"version": 4, "addr": "10.0.0.10"}]}
    world("GET", f"/servers/{server}/ips/other", ok=404)
    cards = world("GET", f"/servers/{server}/os-interface", ok=200).json["interfaceAttachments"]
    assert len(cards) == 1 and cards[0]["port_state"] == "ACTIVE"
    shown = world("GET", f"/servers/{server}/os-interface/{cards[0]['port_id']}", ok=200).json["interfaceAttachment"]
    assert shown["fixed_ips"][0]["ip_address"] == "10.0.0.10"
    assert world("GET", f"/servers/{server}/os-volume_attachments", ok=200).json == {"volumeAttachments": []}


def test_diagnostics_are_for_administrators(world, server):
    world("GET", f"/servers/{server}/diagnostics", v="2.48", ok=403)
    told = world("GET", f"/servers/{server}/diagnostics", v="2.48", as_=ADMIN, ok=200).json
    assert told["state"] == "running" and told["num_nics"] == 1
