"""A right that is taken away is gone: at once for every process that reads identity's database, and within a second for one that asks.

Each case makes a token, lets three look at it so that all remember it, takes something away in one process, and looks again: in
that process, in another one on the same database, and at a service elsewhere that polls the revision, on a clock that is set.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from pileus.identity.logic import tokens
from pileus.kernel import clock
from pileus.kernel.errors import NotFound, Unavailable
from pileus.kernel.web.auth import Authenticator, Polled
from tests import databases
from tests.api.identity.test_signed import request_of
from tests.api.identity.world import PASSWORD, Identity, roles_of

GONE: frozenset[str] = frozenset()
MEMBER = frozenset({"member", "reader"})
READER = frozenset({"reader"})


@dataclasses.dataclass
class Processes:
    """Two identity services on one database, and a service elsewhere that asks the second."""

    here: Identity
    there: Identity
    clock: clock.VirtualClock
    elsewhere: Authenticator
    numbers: Any

    def name(self, kind: str) -> str:
        return f"{kind}-{next(self.numbers)}"


@pytest.fixture(params=databases.KINDS, scope="module")
def processes(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("revocation")
    virtual = clock.VirtualClock()
    before = clock.use(virtual)
    with contextlib.ExitStack() as stack:
        stack.callback(clock.use, before)
        url = stack.enter_context(databases.database_url(request.param, folder))
        here = Identity(db_url=url, home=folder / "here")
        if request.param == "sqlite":  # two processes of one machine have one home
            home = folder / "here"
        else:
            home = folder / "there"
            (home / "keys").mkdir(parents=True)
            shutil.copy(folder / "here" / "keys" / "installation-secret", home / "keys")
        there = Identity(db_url=url, home=home)
        there.ids = here.ids
        elsewhere = Authenticator(
            lambda token: orjson.loads(tokens.validate(there.service, token).json)["token"],
            Polled(lambda: tokens.current_revision(there.service)),
        )
        yield Processes(here, there, virtual, elsewhere, itertools.count())
        for made in (here, there):
            made.service.db.close()
            made.client.close()


@dataclasses.dataclass
class Held:
    """A token, and what takes something away from it; `left` are the roles that remain."""

    token: str
    take: Callable[[], Any]
    left: frozenset[str] = GONE


def person(made, name, **options):
    return made.user(name, **options)["id"]


def scoped(made, name, project, domain="default"):
    return made.token(name, f"{name}-secret", {"project": {"id": project}}, domain=domain)


def own(world, *roles):
    """(user id, name, project id, token) of somebody with these roles on a project of their own."""
    name = world.name("user")
    user, project, token = world.here.member(name, *(roles or ("member",)))
    return user["id"], name, project["id"], token


def user_disabled(world):
    user, _name, _project, token = own(world)
    return Held(token, lambda: world.here("PATCH", f"/users/{user}", {"user": {"enabled": False}}, ok=200))


def user_deleted(world):
    user, _name, _project, token = own(world)
    return Held(token, lambda: world.here("DELETE", f"/users/{user}", ok=204))


def own_password_changed(world):
    user, name, _project, token = own(world)
    body = {"user": {"original_password": f"{name}-secret", "password": "another one"}}
    return Held(token, lambda: world.here("POST", f"/users/{user}/password", body, token=None, ok=204))


def password_reset(world):
    user, _name, _project, token = own(world)
    return Held(token, lambda: world.here("PATCH", f"/users/{user}", {"user": {"password": "another one"}}, ok=200))


def last_direct_role_removed(world):
    user, _name, project, token = own(world)
    return Held(token, lambda: world.here("DELETE", f"/projects/{project}/users/{user}/roles/{world.here.role('member')}", ok=204))


def one_of_two_roles_removed(world):
    user, _name, project, token = own(world, "member", "reader")
    return Held(token, lambda: world.here("DELETE", f"/projects/{project}/users/{user}/roles/{world.here.role('member')}", ok=204), READER)


def by_group(world):
    """(user, name, group, project, token) of a user who has the role member by a group."""
    made, name = world.here, world.name("user")
    user, group = person(made, name), made.make("group", name=world.name("group"))["id"]
    project = made.make("project", name=world.name("project"))["id"]
    made("PUT", f"/groups/{group}/users/{user}", ok=204)
    made.grant("member", group=group, project=project)
    return user, name, group, project, scoped(made, name, project)


def role_of_a_group_removed(world):
    _user, _name, group, project, token = by_group(world)
    return Held(token, lambda: world.here("DELETE", f"/projects/{project}/groups/{group}/roles/{world.here.role('member')}", ok=204))


def membership_removed(world):
    user, _name, group, _project, token = by_group(world)
    return Held(token, lambda: world.here("DELETE", f"/groups/{group}/users/{user}", ok=204))


def group_deleted(world):
    _user, _name, group, _project, token = by_group(world)
    return Held(token, lambda: world.here("DELETE", f"/groups/{group}", ok=204))


def inherited(world, *, of_group=False):
    """(path of the grant, token): a role that is inherited from the domain."""
    made, name = world.here, world.name("user")
    domain = made.make("domain", name=world.name("domain"))["id"]
    user = person(made, name, domain_id=domain)
    actor = {"user": user}
    if of_group:
        actor = {"group": made.make("group", name=world.name("group"), domain_id=domain)["id"]}
        made("PUT", f"/groups/{actor['group']}/users/{user}", ok=204)
    path = made.grant("member", domain=domain, inherited=True, **actor)
    project = made.make("project", name=world.name("project"), domain_id=domain)["id"]
    return path, scoped(made, name, project, domain)


def inherited_role_removed(world):
    path, token = inherited(world)
    return Held(token, lambda: world.here("DELETE", path, ok=204))


def inherited_role_of_a_group_removed(world):
    path, token = inherited(world, of_group=True)
    return Held(token, lambda: world.here("DELETE", path, ok=204))


def role_inherited_from_a_parent_removed(world):
    made, name = world.here, world.name("user")
    user, parent = person(made, name), made.make("project", name=world.name("project"))["id"]
    child = made.make("project", name=world.name("project"), parent_id=parent)["id"]
    path = made.grant("member", user=user, project=parent, inherited=True)
    return Held(scoped(made, name, child), lambda: made("DELETE", path, ok=204))


def implied_role_removed(world):
    made, name = world.here, world.name("user")
    prior = made.make("role", name=world.name("role"))
    made("PUT", f"/roles/{prior['id']}/implies/{made.role('member')}", ok=201)
    user, project = person(made, name), made.make("project", name=world.name("project"))["id"]
    made.grant(prior["id"], user=user, project=project)
    token = scoped(made, name, project)
    return Held(token, lambda: made("DELETE", f"/roles/{prior['id']}/implies/{made.role('member')}", ok=204), frozenset({prior["name"]}))


def role_deleted(world):
    made, name = world.here, world.name("user")
    role, user, project = made.make("role", name=world.name("role"))["id"], person(made, name), made.make("project", name=world.name("project"))["id"]
    made.grant(role, user=user, project=project)
    return Held(scoped(made, name, project), lambda: made("DELETE", f"/roles/{role}", ok=204))


def project_disabled(world):
    _user, _name, project, token = own(world)
    return Held(token, lambda: world.here("PATCH", f"/projects/{project}", {"project": {"enabled": False}}, ok=200))


def project_deleted(world):
    _user, _name, project, token = own(world)
    return Held(token, lambda: world.here("DELETE", f"/projects/{project}", ok=204))


def domain_of_the_project_disabled(world):
    made, name = world.here, world.name("user")
    domain = made.make("domain", name=world.name("domain"))["id"]
    user, project = person(made, name), made.make("project", name=world.name("project"), domain_id=domain)["id"]
    made.grant("member", user=user, project=project)
    return Held(scoped(made, name, project), lambda: made("PATCH", f"/domains/{domain}", {"domain": {"enabled": False}}, ok=200))


def domain_of_the_user_disabled(world):
    made, name = world.here, world.name("user")
    domain = made.make("domain", name=world.name("domain"))["id"]
    user, project = person(made, name, domain_id=domain), made.make("project", name=world.name("project"))["id"]
    made.grant("member", user=user, project=project)
    return Held(scoped(made, name, project, domain), lambda: made("PATCH", f"/domains/{domain}", {"domain": {"enabled": False}}, ok=200))


def revoked(world):
    _user, _name, _project, token = own(world)
    return Held(token, lambda: world.here("DELETE", "/auth/tokens", headers={"X-Subject-Token": token}, ok=204))


def role_on_a_domain_removed(world):
    made, name = world.here, world.name("user")
    domain = made.make("domain", name=world.name("domain"))["id"]
    path = made.grant("member", user=person(made, name), domain=domain)
    return Held(made.token(name, f"{name}-secret", {"domain": {"id": domain}}), lambda: made("DELETE", path, ok=204))


def role_on_the_system_removed(world):
    made, name = world.here, world.name("user")
    path = made.grant("reader", user=person(made, name))
    return Held(made.token(name, f"{name}-secret", {"system": {"all": True}}), lambda: made("DELETE", path, ok=204))


def credential(world, *roles):
    """(user, project, id, token of an application credential)"""
    user, _name, project, token = own(world, *roles)
    made = world.here("POST", f"/users/{user}/application_credentials", {"application_credential": {"name": "c"}}, token=token, ok=201).json["application_credential"]
    section = {"id": made["id"], "secret": made["secret"]}
    answer = world.here("POST", "/auth/tokens", {"auth": {"identity": {"methods": ["application_credential"], "application_credential": section}}}, token=None, ok=201)
    return user, project, made["id"], answer.headers["x-subject-token"]


def application_credential_deleted(world):
    user, _project, identifier, token = credential(world)
    return Held(token, lambda: world.here("DELETE", f"/users/{user}/application_credentials/{identifier}", ok=204))


def role_behind_an_application_credential_removed(world):
    user, project, _identifier, token = credential(world)
    return Held(token, lambda: world.here("DELETE", f"/projects/{project}/users/{user}/roles/{world.here.role('member')}", ok=204))


def trusted(world):
    """(trustor, trustee, project, trust, token) of a trust with impersonation."""
    made = world.here
    trustor, _name, project, theirs = own(world)
    name = world.name("trustee")
    trustee = person(made, name)
    body = {"trustor_user_id": trustor, "trustee_user_id": trustee, "project_id": project, "impersonation": True, "roles": [{"name": "member"}]}
    trust = made("POST", "/OS-TRUST/trusts", {"trust": body}, token=theirs, ok=201).json["trust"]["id"]
    return trustor, trustee, project, trust, made.token(name, f"{name}-secret", {"OS-TRUST:trust": {"id": trust}})


def trust_deleted(world):
    *_rest, trust, token = trusted(world)
    return Held(token, lambda: world.here("DELETE", f"/OS-TRUST/trusts/{trust}", ok=204))


def role_behind_a_trust_removed(world):
    trustor, _trustee, project, _trust, token = trusted(world)
    return Held(token, lambda: world.here("DELETE", f"/projects/{project}/users/{trustor}/roles/{world.here.role('member')}", ok=204))


def trustor_disabled(world):
    trustor, *_rest, token = trusted(world)
    return Held(token, lambda: world.here("PATCH", f"/users/{trustor}", {"user": {"enabled": False}}, ok=200))


def trustee_disabled(world):
    _trustor, trustee, *_rest, token = trusted(world)
    return Held(token, lambda: world.here("PATCH", f"/users/{trustee}", {"user": {"enabled": False}}, ok=200))


def user_of_an_ec2_key_disabled(world):
    user, _name, project, _token = own(world)
    made = world.here
    key = made("POST", f"/users/{user}/credentials/OS-EC2", {"tenant_id": project}, ok=201).json["credential"]
    token = made("POST", "/ec2tokens", {"credentials": request_of(key)}, ok=200).headers["x-subject-token"]
    return Held(token, lambda: made("PATCH", f"/users/{user}", {"user": {"enabled": False}}, ok=200))


CASES = [
    user_disabled, user_deleted, own_password_changed, password_reset, last_direct_role_removed, one_of_two_roles_removed, role_of_a_group_removed, membership_removed,
    group_deleted, inherited_role_removed, inherited_role_of_a_group_removed, role_inherited_from_a_parent_removed, implied_role_removed, role_deleted, project_disabled,
    project_deleted, domain_of_the_project_disabled, domain_of_the_user_disabled, revoked, role_on_a_domain_removed, role_on_the_system_removed,
    application_credential_deleted, role_behind_an_application_credential_removed, trust_deleted, role_behind_a_trust_removed, trustor_disabled, trustee_disabled,
    user_of_an_ec2_key_disabled,
]  # fmt: skip


def seen(world, made, token):
    """The roles of the token as this process sees them; GONE where it is no token any more, for whoever asks and however."""
    used = made("GET", "/auth/projects", token=token)
    answer = made.validate(token, by=made.admin)
    head = made("HEAD", "/auth/tokens", headers={"X-Subject-Token": token})
    if answer.status == 404:
        assert (used.status, head.status) == (401, 404)
        return GONE
    assert (answer.status, used.status, head.status) == (200, 200, 200)
    return frozenset(roles_of(answer))


def polled(world, token):
    context = world.elsewhere.context(token)
    return frozenset(context.roles) if context is not None else GONE


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_is_taken_away_is_gone_at_once_and_elsewhere_within_a_second(processes, case):
    world = processes
    for made in (world.here, world.there):
        made.admin = made.token("admin", PASSWORD)
    held = case(world)
    world.clock.advance(0.25)
    before = seen(world, world.here, held.token)
    assert before and before == seen(world, world.there, held.token) == polled(world, held.token)
    held.take()
    assert seen(world, world.here, held.token) == held.left, "in the process that did it"
    assert seen(world, world.there, held.token) == held.left, "in another one on the same database"
    world.clock.advance(1.0)
    assert polled(world, held.token) == held.left, "at a service that asks once a second"
    world.clock.advance(0.25)


def test_who_cannot_ask_for_the_revision_asks_for_every_token(processes):
    world = processes
    _user, _name, _project, token = own(world)
    away, asked = [False], []

    def revision():
        if away[0]:
            raise Unavailable("identity is away")
        return tokens.current_revision(world.there.service)

    def validate(one):
        asked.append(one)
        if len(asked) > 2:
            raise NotFound("revoked meanwhile")
        return orjson.loads(tokens.validate(world.there.service, one).json)["token"]

    elsewhere = Authenticator(validate, Polled(revision))
    assert elsewhere.context(token) and elsewhere.context(token) and len(asked) == 1
    away[0] = True
    assert elsewhere.context(token) and len(asked) == 1, "what was read less than a second ago counts"
    world.clock.advance(1.0)
    assert elsewhere.context(token) and len(asked) == 2, "what was remembered counts no more"
    assert elsewhere.context(token) is None and len(asked) == 3


def test_the_revision_is_asked_for_once_a_second(processes):
    world, asked = processes, []
    revision = Polled(lambda: asked.append(1) or 7)
    for _ in range(10):
        assert revision() == 7
        world.clock.advance(0.125)
    assert len(asked) == 2
    world.clock.advance(-5)  # a clock that went back says nothing about when it was asked
    revision()
    assert len(asked) == 3
