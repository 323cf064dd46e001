"""Unified limits on the wire."""

from __future__ import annotations

import threading

import pytest

from pileus.kernel.errors import ConfigurationError
from tests.api.identity.world import Identity, message


@pytest.fixture
def nova(identity):
    return identity.make("service", type="compute", name="nova")["id"]


def register(identity, service, ok=201, **body):
    given = {"service_id": service, "resource_name": "cores", "default_limit": 10, **body}
    answer = identity("POST", "/registered_limits", {"registered_limits": [given]}, ok=ok)
    return answer.json["registered_limits"][0] if ok == 201 else answer


def limit(identity, service, ok=201, **body):
    given = {"service_id": service, "resource_name": "cores", "resource_limit": 20, **body}
    answer = identity("POST", "/limits", {"limits": [given]}, ok=ok)
    return answer.json["limits"][0] if ok == 201 else answer


def test_a_registered_limit_from_creation_to_deletion(identity, nova):
    made = register(identity, nova, region_id="RegionOne", description="d")
    path = f"/registered_limits/{made['id']}"
    assert made == {
        "id": made["id"],
        "service_id": nova,
        "region_id": "RegionOne",
        "resource_name": "cores",
        "default_limit": 10,
        "description": "d",
        "links": {"self": f"http://localhost:5000/identity/v3{path}"},
    }
    assert identity("GET", path).json["registered_limit"] == made
    assert identity("GET", f"/registered_limits?service_id={nova}&region_id=RegionOne&resource_name=cores").json[
        "registered_limits"
    ] == [made]
    assert identity("GET", "/registered_limits?resource_name=ram").json["registered_limits"] == []
    register(identity, nova, ok=409, region_id="RegionOne")
    assert register(identity, nova)["region_id"] is None
    changed = identity("PATCH", path, {"registered_limit": {"default_limit": 5, "resource_name": "ram"}}, ok=200)
    assert changed.json["registered_limit"] == {**made, "default_limit": 5, "resource_name": "ram"}
    assert identity("DELETE", path).status == 204
    assert identity("GET", path).status == 404


def test_a_registered_limit_outlives_its_service(identity, nova):
    service = identity.make("service", type="rating")["id"]
    body = {"registered_limits": [{"service_id": service, "resource_name": "reports", "default_limit": 3}]}
    made = identity("POST", "/registered_limits", body, ok=201).json["registered_limits"][0]
    identity("DELETE", f"/services/{service}", ok=204)
    path = f"/registered_limits/{made['id']}"
    assert identity("GET", path, ok=200).json["registered_limit"] == made
    identity("DELETE", path, ok=204)


def test_a_limit_from_creation_to_deletion(identity, nova):
    registered = register(identity, nova)
    project = identity.make("project", name="p")["id"]
    made = limit(identity, nova, project_id=project)
    path = f"/limits/{made['id']}"
    assert made == {
        "id": made["id"],
        "project_id": project,
        "domain_id": None,
        "service_id": nova,
        "region_id": None,
        "resource_name": "cores",
        "resource_limit": 20,
        "description": None,
        "links": {"self": f"http://localhost:5000/identity/v3{path}"},
    }
    assert identity("GET", path).json["limit"] == made
    limit(identity, nova, ok=409, project_id=project)
    changed = identity("PATCH", path, {"limit": {"resource_limit": 7, "description": "less"}}, ok=200).json["limit"]
    assert changed == {**made, "resource_limit": 7, "description": "less"}
    assert identity("DELETE", f"/registered_limits/{registered['id']}").status == 403
    body = {"registered_limit": {"resource_name": "ram"}}
    assert identity("PATCH", f"/registered_limits/{registered['id']}", body).status == 403
    body = {"registered_limit": {"default_limit": 1}}
    assert identity("PATCH", f"/registered_limits/{registered['id']}", body).status == 200
    assert identity("DELETE", path).status == 204
    assert identity("DELETE", f"/registered_limits/{registered['id']}").status == 204


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"project_id": None}, 400),
        ({"project_id": "0" * 32}, 400),
        ({"project_id": None, "domain_id": "0" * 32}, 400),
        ({"domain_id": "default"}, 400),
        ({"resource_name": "unknown"}, 403),
        ({"region_id": "RegionOne"}, 403),
        ({"resource_limit": -2}, 400),
        ({"resource_limit": "x"}, 400),
        ({"unknown": 1}, 400),
    ],
)
def test_bad_limits(identity, nova, change, status):
    register(identity, nova)
    given = {"project_id": identity.ids["admin_project"], **change}
    limit(identity, nova, ok=status, **{name: value for name, value in given.items() if value is not None})


def test_bad_registered_limits(identity, nova):
    for change in ({"service_id": "0" * 32}, {"region_id": "none"}, {"default_limit": "x"}, {"resource_name": ""}, {"x": 1}):
        register(identity, nova, ok=400, **change)
    assert identity("POST", "/registered_limits", {"registered_limits": []}).status == 400


def test_several_are_made_together_or_not_at_all(identity, nova):
    good = {"service_id": nova, "resource_name": "a", "default_limit": 1}
    body = {"registered_limits": [good, {**good, "region_id": "none"}]}
    assert identity("POST", "/registered_limits", body).status == 400
    assert identity("GET", "/registered_limits").json["registered_limits"] == []
    body = {"registered_limits": [good, {**good, "resource_name": "b"}]}
    assert len(identity("POST", "/registered_limits", body, ok=201).json["registered_limits"]) == 2


def test_a_project_sees_the_own_limits(identity, nova):
    register(identity, nova)
    _who, project, token = identity.member("ann")
    mine = limit(identity, nova, project_id=project["id"])
    others = limit(identity, nova, project_id=identity.ids["admin_project"])
    domains = limit(identity, nova, domain_id="default")
    assert [one["id"] for one in identity("GET", "/limits", token=token).json["limits"]] == [mine["id"]]
    assert {one["id"] for one in identity("GET", "/limits").json["limits"]} == {mine["id"], others["id"], domains["id"]}
    assert [one["id"] for one in identity("GET", "/limits?domain_id=default").json["limits"]] == [domains["id"]]
    assert identity("GET", f"/limits/{mine['id']}", token=token).status == 200
    assert identity("GET", f"/limits/{others['id']}", token=token).status == 403
    unscoped = identity.token("ann", "ann-secret", "unscoped")
    assert identity("GET", "/limits", token=unscoped).json["limits"] == []
    identity("DELETE", f"/projects/{project['id']}", ok=204)
    assert identity("GET", f"/limits/{mine['id']}").status == 404


def test_a_domain_is_a_project_too(identity, nova):
    register(identity, nova)
    made = limit(identity, nova, project_id="default")
    assert (made["project_id"], made["domain_id"]) == (None, "default")
    limit(identity, nova, ok=409, domain_id="default")
    limit(identity, nova, ok=400, domain_id=identity.ids["admin_project"])


def test_the_model(identity):
    assert identity("GET", "/limits/model").json["model"]["name"] == "flat"


# The strict model of two levels ---------------------------------------------------------------------------------------

STRICT = {"limit_enforcement_model": "strict_two_level"}


@pytest.fixture
def strict(tmp_path):
    """Identity with the strict model; domain acme with a project, and a project below that; 10 cores by default."""
    made = Identity(home=tmp_path, options=STRICT)
    yield made, *tree(made)
    made.client.close()


def tree(identity):
    nova = identity.make("service", type="compute", name="nova")["id"]
    register(identity, nova)
    domain = identity.make("domain", name="acme")["id"]
    upper = identity.make("project", name="upper", domain_id=domain)["id"]
    lower = identity.make("project", name="lower", domain_id=domain, parent_id=upper)["id"]
    return nova, domain, upper, lower


def change(identity, made, value):
    return identity("PATCH", f"/limits/{made['id']}", {"limit": {"resource_limit": value}})


def test_the_strict_model_says_its_name(strict):
    shown = strict[0]("GET", "/limits/model").json["model"]
    assert shown["name"] == "strict_two_level" and "two levels" in shown["description"]


def test_no_project_has_more_than_its_domain(strict):
    identity, nova, domain, upper, lower = strict
    for project in (upper, lower):
        refused = limit(identity, nova, ok=403, project_id=project, resource_limit=11)
        assert message(refused) == f"Invalid resource limit: cores of project {project} cannot be 11, its domain {domain} has 10."
    mine = limit(identity, nova, project_id=upper, resource_limit=10)
    assert change(identity, mine, 11).status == 403
    domains = limit(identity, nova, domain_id=domain, resource_limit=20)
    assert change(identity, mine, 20).status == 200
    assert change(identity, mine, 21).status == 403
    below = limit(identity, nova, project_id=lower, resource_limit=15)
    refused = change(identity, domains, 19)
    assert message(refused) == f"Invalid resource limit: cores of domain {domain} cannot be 19, its project {upper} has 20."
    assert change(identity, mine, 1).status == 200
    assert change(identity, domains, 14).status == 403, "the project below counts too"
    assert change(identity, domains, 15).status == 200
    identity("DELETE", f"/limits/{below['id']}", ok=204)
    assert change(identity, domains, 1).status == 200
    assert change(identity, domains, 0).status == 403
    identity("DELETE", f"/limits/{mine['id']}", ok=204)
    assert change(identity, domains, 0).status == 200
    limit(identity, nova, ok=403, project_id=upper, resource_limit=1)
    limit(identity, nova, project_id=upper, resource_limit=0)
    other = identity.make("project", name="in-another-domain")["id"]
    limit(identity, nova, project_id=other, resource_limit=10)


def test_no_limit_is_above_every_number(strict):
    identity, nova, domain, upper, _lower = strict
    limit(identity, nova, ok=403, project_id=upper, resource_limit=-1)
    domains = limit(identity, nova, domain_id=domain, resource_limit=-1)
    mine = limit(identity, nova, project_id=upper, resource_limit=1000)
    assert change(identity, mine, -1).status == 200
    assert change(identity, domains, 100000).status == 403


def test_a_default_does_not_fall_below_what_projects_have(strict):
    identity, nova, domain, upper, _lower = strict
    other = identity.make("project", name="in-another-domain")["id"]
    registered = identity("GET", "/registered_limits").json["registered_limits"][0]

    def default(value):
        return identity("PATCH", f"/registered_limits/{registered['id']}", {"registered_limit": {"default_limit": value}})

    limit(identity, nova, project_id=upper, resource_limit=8)
    limit(identity, nova, project_id=other, resource_limit=6)
    refused = default(7)
    assert (refused.status, message(refused)) == (
        403,
        f"Invalid resource limit: cores cannot be 7 by default, project {upper} has 8 and its domain no limit of its own.",
    )
    assert identity("GET", f"/registered_limits/{registered['id']}").json["registered_limit"] == registered
    assert default(8).status == 200
    limit(identity, nova, domain_id=domain, resource_limit=8)
    assert default(7).status == 200, "the domain has a limit of its own"
    assert default(5).status == 403, "the other has none"
    assert default(-1).status == 200


def test_the_limit_of_a_domain_stays_while_projects_have_more_than_the_default(strict):
    identity, nova, domain, upper, _lower = strict
    domains = limit(identity, nova, domain_id=domain, resource_limit=20)
    mine = limit(identity, nova, project_id=upper, resource_limit=15)
    refused = identity("DELETE", f"/limits/{domains['id']}")
    assert (refused.status, message(refused)) == (
        403,
        f"Invalid resource limit: cores of domain {domain} cannot be 10, its project {upper} has 15.",
    )
    assert identity("GET", f"/limits/{domains['id']}").json["limit"] == domains
    assert change(identity, mine, 10).status == 200
    assert identity("DELETE", f"/limits/{domains['id']}").status == 204
    assert identity("DELETE", f"/limits/{domains['id']}").status == 404


def test_limits_that_are_made_together_are_looked_at_together(strict):
    identity, nova, domain, upper, lower = strict

    def make(*limits):
        given = [{"service_id": nova, "resource_name": "cores", "resource_limit": value, **owner} for value, owner in limits]
        return identity("POST", "/limits", {"limits": given}).status

    assert make((30, {"project_id": upper}), (20, {"domain_id": domain})) == 403
    assert make((20, {"project_id": upper}), (20, {"project_id": lower}), (19, {"domain_id": domain})) == 403
    assert identity("GET", "/limits").json["limits"] == [], "all or none"
    assert make((20, {"project_id": upper}), (5, {"project_id": lower}), (20, {"domain_id": domain})) == 201


def test_each_place_has_limits_of_its_own(strict):
    identity, nova, domain, upper, _lower = strict
    register(identity, nova, region_id="RegionOne", default_limit=100)
    limit(identity, nova, domain_id=domain, resource_limit=5)
    limit(identity, nova, project_id=upper, region_id="RegionOne", resource_limit=99)
    limit(identity, nova, ok=403, project_id=upper, resource_limit=6)


def test_below_a_domain_are_two_levels(strict):
    identity, _nova, domain, _upper, lower = strict
    body = {"project": {"name": "third", "domain_id": domain, "parent_id": lower}}
    refused = identity("POST", "/projects", body)
    assert (refused.status, message(refused)) == (403, f"Max hierarchy depth reached for {lower} branch.")


def test_the_model_is_not_for_deeper_trees(tmp_path):
    url = f"sqlite:///{tmp_path}/identity.db"
    flat = Identity(home=tmp_path, db_url=url)
    _nova, domain, _upper, lower = tree(flat)
    Identity(home=tmp_path, db_url=url, options=STRICT).client.close()
    third = flat.make("project", name="third", domain_id=domain, parent_id=lower)["id"]
    flat.client.close()
    with pytest.raises(ConfigurationError, match=third):
        Identity(home=tmp_path, db_url=url, options=STRICT)


def test_a_default_and_a_limit_that_are_changed_at_once_fit(database_url):
    identity = Identity(db_url=database_url, options=STRICT)
    nova, _domain, upper, _lower = tree(identity)
    registered = identity("GET", "/registered_limits").json["registered_limits"][0]["id"]
    mine = limit(identity, nova, project_id=upper, resource_limit=5)

    def default(value):
        return identity("PATCH", f"/registered_limits/{registered}", {"registered_limit": {"default_limit": value}})

    for _ in range(10):
        ready = threading.Barrier(2)

        def do(work):
            ready.wait()
            assert work().status in {200, 403}

        threads = [threading.Thread(target=do, args=(work,)) for work in (lambda: default(7), lambda: change(identity, mine, 9))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        most = identity("GET", f"/registered_limits/{registered}").json["registered_limit"]["default_limit"]
        assert identity("GET", f"/limits/{mine['id']}").json["limit"]["resource_limit"] <= most
        assert change(identity, mine, 5).status == 200
        assert default(10).status == 200
    identity.client.close()


def test_limits_of_domain_and_project_that_are_changed_at_once_fit(database_url):
    identity = Identity(db_url=database_url, options=STRICT)
    nova, domain, upper, _lower = tree(identity)
    domains, mine = limit(identity, nova, domain_id=domain, resource_limit=20), limit(identity, nova, project_id=upper, resource_limit=5)
    for _ in range(10):
        ready = threading.Barrier(2)

        def do(made, value):
            ready.wait()
            assert change(identity, made, value).status in {200, 403}

        threads = [threading.Thread(target=do, args=pair) for pair in ((domains, 10), (mine, 15))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = {one["project_id"]: one["resource_limit"] for one in identity("GET", "/limits", ok=200).json["limits"]}
        assert found[upper] <= found[None], found
        change(identity, mine, 5)
        assert change(identity, domains, 20).status == 200
    identity.client.close()
