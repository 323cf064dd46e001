"""An operator's policy file, from the file to the answer: it acts at once, a broken one changes nothing, and scopes stay."""

from __future__ import annotations

import pytest

from pileus.kernel import clock
from pileus.kernel.errors import ConfigurationError
from tests.api.identity.world import PASSWORD, Identity


@pytest.fixture
def world(tmp_path):
    virtual = clock.VirtualClock()
    before = clock.use(virtual)
    made = Identity(home=tmp_path)
    path = tmp_path / "etc" / "identity-policy.yaml"
    path.parent.mkdir(exist_ok=True)

    def write(text):
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        virtual.advance(1.0)

    yield made, write
    made.client.close()
    clock.use(before)


def test_a_file_acts_within_a_second_whatever_it_says(world):
    made, write = world
    who, _project, token = made.member("ann")
    own, others = f"/users/{who['id']}", f"/users/{made.user('bob')['id']}"
    assert made("GET", "/users", token=token).status == 403
    write('"identity:list_users": "role:member"\n')
    assert made("GET", "/users", token=token).status == 200
    write('"identity:list_users": "role:member"\n"identity:update_user": "user_id:%(user_id)s"\n')
    assert made("PATCH", own, {"user": {"email": "ann@example.test"}}, token=token).status == 200, "a parameter of the path"
    assert made("PATCH", others, {"user": {"email": "x"}}, token=token).status == 403
    assert made("PATCH", others, {"user": {"email": "x"}}).status == 403, "not even by the administrator: the file says so"
    write('"identity:get_user": "token.user.domain.id:%(target.user.domain_id)s"\n')
    assert made("GET", others, token=token).status == 200
    assert made("GET", "/users", token=token).status == 403, "what the file names no more has its default again"
    write("# nothing\n")
    assert made("GET", others, token=token).status == 403
    write(None)
    assert made("GET", others, token=token).status == 403


@pytest.mark.parametrize("broken", ['"identity:list_users": "role:member or"', "{", "[]", '"identity:list_users": 1', '"a": "rule:b"\n"b": "rule:a"', "\x00"])
def test_a_broken_file_changes_nothing_and_keeps_a_service_from_starting(world, broken, caplog, tmp_path):
    made, write = world
    _who, _project, token = made.member("ann")
    write('"identity:list_users": "role:member"\n')
    assert made("GET", "/users", token=token).status == 200
    write(broken)
    assert made("GET", "/users", token=token).status == 200
    assert made("GET", "/services", token=token).status == 403
    assert "policy file refused" in caplog.text
    with pytest.raises(ConfigurationError):
        Identity(home=tmp_path, db_url=f"sqlite:///{tmp_path}/other.db")
    write('"identity:list_users": "!"\n')
    assert made("GET", "/users").status == 403


def test_a_token_for_a_domain_is_refused_where_the_cloud_is_concerned(world):
    made, write = world
    domain = made.make("domain", name="acme")["id"]
    user = made.user("boss", domain_id=domain)["id"]
    made.grant("admin", user=user, domain=domain)
    token = made.token("boss", "boss-secret", {"domain": {"id": domain}}, domain=domain)
    for path in ("/users", "/groups", "/projects", "/roles", "/domains", "/role_assignments", "/regions", "/auth/projects"):
        assert made("GET", path, token=token).status == 200, path
    for path in ("/services", "/endpoints", "/policies", "/OS-TRUST/trusts", "/OS-EP-FILTER/endpoint_groups", "/pileus/nodes", "/OS-REVOKE/events", f"/users/{user}/application_credentials"):
        assert made("GET", path, token=token).status == 403, path
    write('"identity:list_services": "@"\n')
    assert made("GET", "/services", token=token).status == 403, "a file does not widen the scopes"
    on_system = made.token("admin", PASSWORD, {"system": {"all": True}})
    trust = {"trust": {"trustor_user_id": made.ids["admin_user"], "trustee_user_id": user, "impersonation": False, "roles": []}}
    assert made("POST", "/OS-TRUST/trusts", trust, token=on_system).status == 403
