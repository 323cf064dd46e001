"""Regions, services and endpoints on the wire."""

from __future__ import annotations

import re

import pytest

from tests.api.identity.world import PASSWORD, message


def catalog(identity):
    answer = identity.login("admin", PASSWORD, {"project": {"name": "admin", "domain": {"id": "default"}}})
    return {service["name"]: service for service in answer.json["token"]["catalog"]}


def test_regions(identity):
    one = identity.make("region", id="North", description="d")
    assert one == {
        "id": "North",
        "description": "d",
        "parent_region_id": None,
        "links": {"self": "http://localhost:5000/identity/v3/regions/North"},
    }
    two = identity.make("region", parent_region_id="North")
    assert len(two["id"]) == 32
    put = identity("PUT", "/regions/South", {"region": {"description": "s"}})
    assert put.status == 201 and put.json["region"]["id"] == "South"
    assert identity("PUT", "/regions/South", {"region": {"id": "x"}}).status == 400
    assert identity("POST", "/regions", {"region": {"id": "South"}}).status == 409
    assert identity("POST", "/regions", {"region": {"parent_region_id": "none"}}).status == 404
    assert identity("PATCH", "/regions/North", {"region": {"parent_region_id": two["id"]}}).status == 400
    changed = identity("PATCH", "/regions/North", {"region": {"description": "e"}}, ok=200).json["region"]
    assert changed["description"] == "e"
    listed = identity("GET", "/regions?parent_region_id=North").json["regions"]
    assert [one["id"] for one in listed] == [two["id"]]
    assert identity("DELETE", "/regions/North").status == 403
    assert identity("DELETE", f"/regions/{two['id']}").status == 204
    assert identity("DELETE", "/regions/North").status == 204
    assert identity("DELETE", "/regions/RegionOne").status == 403
    assert message(identity("GET", "/regions/North")) == "Could not find region: North."


def test_services_and_endpoints_and_the_catalog(identity):
    service = identity.make("service", type="object-store", name="swift", description="d")
    assert service == {
        "id": service["id"],
        "type": "object-store",
        "name": "swift",
        "description": "d",
        "enabled": True,
        "links": {"self": f"http://localhost:5000/identity/v3/services/{service['id']}"},
    }
    assert catalog(identity)["swift"]["endpoints"] == []
    url = "http://c/object-store/v1/AUTH_$(project_id)s"
    endpoint = identity.make("endpoint", service_id=service["id"], interface="public", region_id="RegionOne", url=url)
    assert endpoint == {
        "id": endpoint["id"],
        "service_id": service["id"],
        "interface": "public",
        "region_id": "RegionOne",
        "region": "RegionOne",
        "url": url,
        "enabled": True,
        "links": {"self": f"http://localhost:5000/identity/v3/endpoints/{endpoint['id']}"},
    }
    (shown,) = catalog(identity)["swift"]["endpoints"]
    assert shown["url"] == f"http://c/object-store/v1/AUTH_{identity.ids['admin_project']}"
    identity("PATCH", f"/endpoints/{endpoint['id']}", {"endpoint": {"enabled": False}}, ok=200)
    assert catalog(identity)["swift"]["endpoints"] == []
    identity("PATCH", f"/services/{service['id']}", {"service": {"enabled": False}}, ok=200)
    assert "swift" not in catalog(identity)
    assert identity("DELETE", f"/services/{service['id']}").status == 204
    assert identity("GET", f"/endpoints/{endpoint['id']}").status == 404
    assert identity("DELETE", f"/services/{service['id']}").status == 404


def test_a_token_that_is_out_shows_the_catalog_of_now(identity):
    def types():
        return {service["type"] for service in identity.validate(identity.admin).json["token"]["catalog"]}

    assert "dns" not in types()
    service = identity.make("service", type="dns", name="designate")
    assert "dns" in types()
    identity("DELETE", f"/services/{service['id']}", ok=204)
    assert "dns" not in types()


def test_filters(identity):
    service = identity("GET", "/services?type=volumev3").json["services"][0]
    assert service["name"] == "cinder"
    assert identity("GET", "/services?name=keystone").json["services"][0]["type"] == "identity"
    found = identity("GET", f"/endpoints?interface=public&service_id={service['id']}").json["endpoints"]
    assert [endpoint["interface"] for endpoint in found] == ["public"]
    assert len(identity("GET", "/endpoints?region_id=RegionOne").json["endpoints"]) == 6
    assert identity("GET", "/endpoints?region_id=none").json["endpoints"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"interface": "secret"},
        {"url": "no-scheme"},
        {"url": ""},
        {"url": "http://c/$(nothing)s"},
        {"service_id": "0" * 32},
        {"region_id": "none"},
        {"enabled": "yes"},
    ],
)
def test_bad_endpoints_are_400(identity, change):
    service = identity("GET", "/services").json["services"][0]
    good = {"interface": "public", "url": "http://c/x", "service_id": service["id"], "region_id": "RegionOne"}
    assert identity("POST", "/endpoints", {"endpoint": {**good, **change}}).status == 400
    made = identity("POST", "/endpoints", {"endpoint": good}, ok=201).json["endpoint"]
    assert identity("PATCH", f"/endpoints/{made['id']}", {"endpoint": change}).status == 400


def test_bad_services_are_400(identity):
    for body in ({}, {"type": ""}, {"type": 1}, {"type": "x", "enabled": 1}):
        assert identity("POST", "/services", {"service": body}).status == 400


def test_policy_blobs(identity):
    body = {"type": "application/json", "blob": {"rule": ["role:x"]}}
    made = identity("POST", "/policies", {"policy": body}, ok=201).json["policy"]
    path = f"/policies/{made['id']}"
    assert made == {**body, "id": made["id"], "links": {"self": f"http://localhost:5000/identity/v3{path}"}}
    assert identity("GET", path).json["policy"] == made
    assert identity("GET", "/policies?type=application/json").json["policies"] == [made]
    assert identity("PATCH", path, {"policy": {"blob": "text"}}, ok=200).json["policy"] == {**made, "blob": "text"}
    for bad in ({}, {"blob": "x"}, {"type": "", "blob": "x"}, {"type": "x", "blob": 7}):
        assert identity("POST", "/policies", {"policy": bad}).status == 400
    assert identity("DELETE", path).status == 204
    assert identity("GET", path).status == 404


def test_version_documents_with_and_without_slash(identity):
    for path in ("", "/"):
        answer = identity.client.get("/v3" + path, as_=None)
        assert answer.status == 200
        version = answer.json["version"]
        assert (version["id"], version["status"]) == ("v3.14", "stable")
        assert version["links"] == [{"rel": "self", "href": "http://localhost:5000/identity/v3/"}]
    many = identity.client.get("/", as_=None)
    assert many.status == 300
    assert many.json == {"versions": {"values": [version]}}


def test_the_home_document(identity):
    home = identity.client.get("/v3", headers={"Accept": "application/json-home"}, as_=None)
    assert home.headers["content-type"] == "application/json-home"
    resources = home.json["resources"]
    base = "https://docs.openstack.org/api/openstack-identity/3"
    assert resources[f"{base}/rel/auth_tokens"] == {"href": "/auth/tokens"}
    assert resources[f"{base}/rel/user"] == {
        "href-template": "/users/{user_id}",
        "href-vars": {"user_id": f"{base}/param/user_id"},
    }
    plain = identity.client.get("/v3", headers={"Accept": "application/json, application/json-home;q=0.5"}, as_=None)
    assert "version" in plain.json
    from pileus.identity.room import ROOM

    served = {nameless(operation.path) for operation in ROOM.operations()}
    assert {nameless(entry.get("href") or entry["href-template"]) for entry in resources.values()} <= served


def nameless(path):
    return re.sub(r"\{[^}]+\}", "{}", path)


UPSTREAMS = {
    "": """auth_tokens auth_catalog auth_projects auth_domains auth_system credential credentials domain domains domain_group_role domain_group_roles domain_user_role domain_user_roles
        endpoint endpoints group groups group_user group_users policy policies project projects project_group_role project_group_roles project_user_role project_user_roles project_tags
        region regions role roles role_assignments role_inferences implied_role implied_roles service services user users user_change_password user_groups user_projects
        application_credential application_credentials access_rule access_rules system_user_role system_user_roles system_group_role system_group_roles
        registered_limit registered_limits limit limits limit_model""",
    "OS-EC2": "ec2tokens user_credential user_credentials",
    "OS-PKI": "revocations",
    "OS-REVOKE": "events",
    "OS-OAUTH2": "token",
    "OS-TRUST": "trust trusts trust_role trust_roles",
    "s3tokens": "s3tokens",
    "OS-ENDPOINT-POLICY": "endpoint_policy endpoint_policy_association policy_endpoints region_and_service_policy_association service_policy_association",
    "OS-EP-FILTER": """endpoint_group endpoint_groups endpoint_group_to_project_association endpoint_projects endpoints_in_endpoint_group project_endpoint_groups project_endpoint
        project_endpoints projects_associated_with_endpoint_group""",
    "OS-INHERIT": """domain_user_role_inherited_to_projects domain_group_role_inherited_to_projects domain_user_roles_inherited_to_projects domain_group_roles_inherited_to_projects
        project_user_role_inherited_to_projects project_group_role_inherited_to_projects""",
}
"""The relations of upstream's home document by extension."""


def test_the_home_document_has_upstreams_relations_and_says_where_its_variables_are_from(identity):
    resources = identity.client.get("/v3", headers={"Accept": "application/json-home"}, as_=None).json["resources"]
    base = "https://docs.openstack.org/api/openstack-identity/3"
    expected = {f"{base}{f'/ext/{name}/1.0' if name else ''}/rel/{one}" for name, relations in UPSTREAMS.items() for one in relations.split()}
    assert expected - set(resources) == set()
    assert resources[f"{base}/ext/OS-TRUST/1.0/rel/trust_role"] == {
        "href-template": "/OS-TRUST/trusts/{trust_id}/roles/{role_id}",
        "href-vars": {"trust_id": f"{base}/ext/OS-TRUST/1.0/param/trust_id", "role_id": f"{base}/param/role_id"},
    }
    assert resources[f"{base}/ext/OS-EC2/1.0/rel/user_credential"]["href-vars"] == {
        "user_id": f"{base}/param/user_id",
        "credential_id": f"{base}/ext/OS-EC2/1.0/param/credential_id",
    }
    assert resources[f"{base}/rel/credential"]["href-vars"] == {"credential_id": f"{base}/param/credential_id"}
    assert resources[f"{base}/rel/limit_model"] == {"href": "/limits/model", "hints": {"status": "experimental"}}
