"""Policies of endpoints: associated with an endpoint, a service, or a service in a region; the nearest one counts."""

from __future__ import annotations

import pytest

from tests.api.identity.world import Identity, message


@pytest.fixture
def place(identity):
    """A service with an endpoint in the lower one of two regions."""
    identity("POST", "/regions", {"region": {"id": "upper"}}, ok=201)
    identity("POST", "/regions", {"region": {"id": "lower", "parent_region_id": "upper"}}, ok=201)
    service = identity("POST", "/services", {"service": {"type": "thing"}}, ok=201).json["service"]["id"]
    return service, endpoint(identity, service, "lower")


def endpoint(identity, service, region):
    body = {"service_id": service, "interface": "public", "url": "http://t", "region_id": region}
    return identity("POST", "/endpoints", {"endpoint": body}, ok=201).json["endpoint"]["id"]


def policy(identity, blob="{}"):
    return identity("POST", "/policies", {"policy": {"type": "application/json", "blob": blob}}, ok=201).json["policy"]["id"]


def path(policy_id, subject):
    return f"/policies/{policy_id}/OS-ENDPOINT-POLICY/{subject}"


def of_endpoint(identity, endpoint_id):
    return identity("GET", f"/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy")


def test_each_kind_of_association_from_creation_to_deletion(identity, place):
    service, point = place
    one = policy(identity)
    for subject in (f"endpoints/{point}", f"services/{service}", f"services/{service}/regions/upper"):
        here = path(one, subject)
        assert identity("GET", here).status == 404
        assert identity("PUT", here).status == 204
        assert identity("PUT", here).status == 204, "once more changes nothing"
        assert (identity("GET", here).status, identity("HEAD", here).status) == (204, 204)
        assert [each["id"] for each in identity("GET", path(one, "endpoints"), ok=200).json["endpoints"]] == [point]
        shown = of_endpoint(identity, point).json["policy"]
        assert shown == identity("GET", f"/policies/{one}").json["policy"]
        assert identity("DELETE", here).status == 204
        assert identity("GET", here).status == 404
        assert identity("DELETE", here).status == 204
    assert identity("GET", path(one, "endpoints")).json["endpoints"] == []


def test_the_nearest_policy_is_the_endpoints(identity, place):
    service, point = place
    by = {name: policy(identity, name) for name in ("service", "upper", "lower", "endpoint")}
    subjects = {
        "service": f"services/{service}",
        "upper": f"services/{service}/regions/upper",
        "lower": f"services/{service}/regions/lower",
        "endpoint": f"endpoints/{point}",
    }
    missing = of_endpoint(identity, point)
    assert (missing.status, message(missing)) == (404, f"No policy is associated with endpoint {point}.")
    for name, subject in subjects.items():
        identity("PUT", path(by[name], subject), ok=204)
        assert of_endpoint(identity, point).json["policy"]["blob"] == name
    elsewhere = endpoint(identity, service, "RegionOne")
    assert of_endpoint(identity, elsewhere).json["policy"]["blob"] == "service"
    found = {name: {one["id"] for one in identity("GET", path(by[name], "endpoints")).json["endpoints"]} for name in by}
    assert found == {"service": {point, elsewhere}, "upper": {point}, "lower": {point}, "endpoint": {point}}


def test_another_policy_takes_the_place_of_the_first(identity, place):
    _, point = place
    first, second = policy(identity), policy(identity)
    identity("PUT", path(first, f"endpoints/{point}"), ok=204)
    identity("PUT", path(second, f"endpoints/{point}"), ok=204)
    assert of_endpoint(identity, point).json["policy"]["id"] == second
    assert identity("GET", path(first, f"endpoints/{point}")).status == 404
    identity("DELETE", path(first, f"endpoints/{point}"), ok=204)
    assert of_endpoint(identity, point).json["policy"]["id"] == second, "it was not the first one's to take away"


def test_what_does_not_exist_is_not_found(identity, place):
    service, point = place
    one = policy(identity)
    for policy_id, subject in (
        ("nothing", f"endpoints/{point}"),
        (one, "endpoints/nothing"),
        (one, "services/nothing"),
        (one, f"services/{service}/regions/nothing"),
        ("nothing", "endpoints"),
    ):
        methods = ["GET"] if subject == "endpoints" else ["GET", "PUT", "DELETE"]
        assert {identity(method, path(policy_id, subject)).status for method in methods} == {404}, subject
    assert of_endpoint(identity, "nothing").status == 404


@pytest.mark.parametrize("gone", ["policy", "endpoint", "service", "region"])
def test_associations_go_with_what_they_are_of(database_url, gone):
    identity = Identity(db_url=database_url)
    identity("POST", "/regions", {"region": {"id": "away"}}, ok=201)
    service = identity("POST", "/services", {"service": {"type": "thing"}}, ok=201).json["service"]["id"]
    point, one = endpoint(identity, service, "RegionOne"), policy(identity)
    for subject in (f"endpoints/{point}", f"services/{service}", f"services/{service}/regions/away"):
        identity("PUT", path(one, subject), ok=204)
    identity("DELETE", {"policy": f"/policies/{one}", "endpoint": f"/endpoints/{point}", "service": f"/services/{service}", "region": "/regions/away"}[gone], ok=204)
    left = identity.service.db
    with left.read() as conn:
        subjects = conn.exec_driver_sql("SELECT count(*) FROM policy_associations").scalar_one()
    assert subjects == {"policy": 0, "endpoint": 2, "service": 0, "region": 2}[gone]
    identity.client.close()


def test_lists_cost_the_same_queries_for_any_number(identity, place):
    service, _ = place
    one = policy(identity)
    identity("PUT", path(one, f"services/{service}/regions/upper"), ok=204)
    counts = []
    for _ in range(2):
        endpoint(identity, service, "lower")
        with identity.client.count_queries() as queries:
            identity("GET", path(one, "endpoints"), ok=200)
        counts.append(len(queries))
    assert counts[0] == counts[1]
