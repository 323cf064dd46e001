"""Filters, fields, order, pages and tags: the same for every collection."""

from __future__ import annotations

import pytest

from pileus.kernel.testing import ADMIN, MEMBER, OTHER


def names(bodies):
    return [body["name"] for body in bodies]


@pytest.fixture
def five(net):
    return [net.make("networks", name=name) for name in ("d", "a", "c", "e", "b")]


def test_filters_repeat(net, five):
    assert set(names(net.all("/networks?name=a&name=b"))) == {"a", "b"}
    assert names(net.all(f"/networks?name=a&id={five[1]['id']}")) == ["a"]
    assert net.all("/networks?name=a&admin_state_up=false") == []
    assert len(net.all("/networks?admin_state_up=True&status=ACTIVE")) == 5
    assert len(net.all(f"/networks?tenant_id={MEMBER.project_id}")) == 5
    assert net.all(f"/networks?project_id={OTHER.project_id}") == []


@pytest.mark.parametrize(
    "query",
    [
        "colour=red", "admin_state_up=maybe", "mtu=much", "limit=-1", "limit=many", "sort_key=colour", "sort_key=name&sort_dir=up",
        "sort_key=name&sort_dir=asc&sort_dir=desc", "changed_since=yesterday", "provider:segmentation_id=99999999999999999999",
    ],
)  # fmt: skip
def test_queries_that_make_no_sense_are_refused(net, query):
    assert net.refused("GET", f"/networks?{query}") == (400, "HTTPBadRequest")


def test_fields_leave_only_what_is_asked_for(net, five):
    assert all(set(body) == {"id", "name"} for body in net.all("/networks?fields=id&fields=name"))
    assert net("GET", f"/networks/{five[0]['id']}?fields=mtu", ok=200).json == {"network": {"mtu": 1450}}


def test_lists_come_in_the_wanted_order(net, five):
    assert names(net.all("/networks?sort_key=name")) == ["a", "b", "c", "d", "e"]
    assert names(net.all("/networks?sort_key=name&sort_dir=desc")) == ["e", "d", "c", "b", "a"]
    assert names(net.all("/networks?sort_key=mtu&sort_dir=asc&sort_key=name&sort_dir=desc")) == ["e", "d", "c", "b", "a"]


def test_pages_follow_each_other_both_ways(net, five):
    seen, path = [], "/networks?sort_key=name&limit=2"
    while path:
        body = net("GET", path, ok=200).json
        seen.append(names(body["networks"]))
        following = [link["href"] for link in body.get("networks_links", []) if link["rel"] == "next"]
        path = following[0].partition("/v2.0")[2] if following else None
    assert seen == [["a", "b"], ["c", "d"], ["e"]]
    body = net("GET", f"/networks?sort_key=name&limit=2&marker={five[0]['id']}&page_reverse=True", ok=200).json
    assert names(body["networks"]) == ["b", "c"]
    assert {link["rel"] for link in body["networks_links"]} == {"next", "previous"}
    previous = next(link["href"] for link in body["networks_links"] if link["rel"] == "previous")
    assert previous.startswith("http://localhost:5000/networking/v2.0/networks?")
    assert names(net.all(previous.partition("/v2.0")[2])) == ["a"]


def test_an_unknown_marker_is_not_found(net, five):
    assert net.refused("GET", "/networks?limit=1&marker=none") == (404, "NetworkNotFound")


def test_an_unlimited_list_has_no_links(net, five):
    assert set(net("GET", "/networks", ok=200).json) == {"networks"}


@pytest.mark.parametrize("collection", ["networks", "subnets", "subnetpools", "ports", "routers", "floatingips", "security-groups"])
def test_tags_are_kept_for_each_kind_of_resource(net, collection):
    network, subnet = net.net()
    made = {
        "networks": network["id"],
        "subnets": subnet["id"],
        "subnetpools": net.make("subnetpools", name="pool", prefixes=["10.0.0.0/8"])["id"],
        "ports": net.all("/ports")[0]["id"],
        "routers": net.make("routers")["id"],
        "security-groups": net.all("/security-groups")[0]["id"],
        "floatingips": net.make("floatingips", floating_network_id=net.outside()[0]["id"])["id"],
    }[collection]
    path = f"/{collection}/{made}/tags"
    before = net.get(collection, made)["revision_number"]
    assert net("PUT", path, {"tags": ["red", "blue"]}, ok=200).json == {"tags": ["blue", "red"]}
    net("PUT", path + "/green", ok=201)
    assert net.get(collection, made)["tags"] == net.all(path) == ["blue", "green", "red"]
    assert net.get(collection, made)["revision_number"] > before
    net("GET", path + "/red", ok=204)
    net("DELETE", path + "/red", ok=204)
    assert net.refused("GET", path + "/red") == (404, "TagNotFound")
    assert net.refused("DELETE", path + "/red") == (404, "TagNotFound")
    assert net.refused("PUT", path, {"tags": ["a,b"]}) == (400, "HTTPBadRequest")
    assert net.refused("PUT", path, {"labels": []}) == (400, "HTTPBadRequest")
    assert net.refused("PUT", path, {"tags": ["x"]}, as_=OTHER)[0] == 404
    assert [body["id"] for body in net.all(f"/{collection}?tags=blue,green")] == [made]
    net("DELETE", path, ok=204)
    assert net.get(collection, made)["tags"] == []


def test_lists_are_filtered_by_tags_in_four_ways(net, five):
    for body, tags in zip(five[:3], (["x"], ["y"], ["x", "y"]), strict=True):  # d, a, c; e and b have none
        net("PUT", f"/networks/{body['id']}/tags", {"tags": tags}, ok=200)
    found = {query: names(net.all(f"/networks?sort_key=name&{query}=x,y")) for query in ("tags", "tags-any", "not-tags", "not-tags-any")}
    assert found == {"tags": ["c"], "tags-any": ["a", "c", "d"], "not-tags": ["a", "b", "d", "e"], "not-tags-any": ["b", "e"]}


def test_changes_since_a_moment_are_found(net, five):
    assert len(net.all("/networks?changed_since=2001-01-01T00:00:00Z")) == 5
    assert net.all("/networks?changed_since=2999-01-01T00:00:00Z") == []


def test_administrators_list_all_projects(net, five):
    net.make("networks", as_=OTHER, name="theirs")
    assert len(net.all("/networks", as_=ADMIN)) == 6
    assert names(net.all(f"/networks?project_id={OTHER.project_id}", as_=ADMIN)) == ["theirs"]
