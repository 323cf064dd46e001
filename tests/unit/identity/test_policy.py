"""Identity's rules: upstream's by name, check string and scope, and each decided as oslo.policy decides it."""

from __future__ import annotations

import logging
import re

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pileus.identity.policy import RULES, SCOPES
from pileus.kernel import clock
from pileus.kernel.context import Context
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.policy import Policy
from tests.api.identity import upstream

OWN = {"identity:get_revision", *(rule for rule in RULES if "node" in rule)}
"""Rules of operations that upstream does not have."""
NAMES = sorted(RULES)
USERS, PROJECTS, DOMAINS = ["u1", "u2"], ["p1", "p2"], ["d1", "d2"]
KEYS = {
    "user_id": USERS,
    "project_id": PROJECTS,
    "target.user.id": USERS,
    "target.token.user_id": USERS,
    "target.credential.user_id": USERS,
    "target.node.user_id": USERS,
    "target.trust.trustor_user_id": USERS,
    "target.trust.trustee_user_id": USERS,
    "target.project.id": PROJECTS,
    "target.limit.project_id": PROJECTS,
    "target.domain_id": DOMAINS,
    "target.domain.id": DOMAINS,
    "target.user.domain_id": DOMAINS,
    "target.group.domain_id": DOMAINS,
    "target.project.domain_id": DOMAINS,
    "target.limit.domain.id": DOMAINS,
    "target.limit.project.domain_id": DOMAINS,
    "target.role.domain_id": DOMAINS,
    "target.role.name": ["admin", "manager", "member", "reader"],
}
ROLES = ["admin", "manager", "member", "reader", "service", "other"]


@st.composite
def contexts(draw):
    """A caller with a token of one scope or none, of one user with some roles there."""
    scope = draw(st.sampled_from(["system", "domain", "project", "none"]))
    where = {}
    if scope == "system":
        where = {"system_scope": "all"}
    elif scope == "domain":
        where = {"domain_id": draw(st.sampled_from(DOMAINS))}
    elif scope == "project":
        where = {"project_id": draw(st.sampled_from(PROJECTS)), "project_domain_id": draw(st.sampled_from(DOMAINS))}
    roles = draw(st.lists(st.sampled_from(ROLES), unique=True, max_size=3)) if scope != "none" else []
    user_domain = draw(st.sampled_from(DOMAINS))
    return Context(user_id=draw(st.sampled_from(USERS)), user_domain_id=user_domain, roles=tuple(roles), **where)


targets = st.fixed_dictionaries({}, optional={key: st.sampled_from([*values, None]) for key, values in KEYS.items()})
thorough = settings(max_examples=800, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
policy = Policy(RULES, None, SCOPES)
upstreams = upstream.Oracle(upstream.CHECKS, upstream.SCOPES)
ours = upstream.Oracle(RULES, SCOPES)


def test_every_rule_is_upstreams_or_of_an_operation_that_upstream_does_not_have():
    assert set(RULES) - set(upstream.CHECKS) == OWN
    assert not [rule for rule in OWN if rule in upstream.CHECKS]


def test_every_rule_takes_the_scopes_that_upstreams_takes():
    for rule in set(RULES) - OWN:
        assert sorted(SCOPES.get(rule, ())) == sorted(upstream.SCOPES[rule] or ()), rule


@pytest.mark.parametrize("rule", NAMES)
def test_a_rule_asks_about_what_upstreams_rule_asks(rule):
    """Otherwise a target of ours would leave it undecided."""
    if rule not in OWN:
        mine, theirs = (set(re.findall(r"%\(([^)]*)\)s", text)) for text in (RULES[rule], upstream.CHECKS[rule]))
        assert mine == theirs


@thorough
@given(st.sampled_from(NAMES), contexts(), targets)
def test_every_rule_decides_as_oslo_policy_decides_it(rule, context, target):
    assert policy.check(rule, context, target) == ours(rule, context, target)


@thorough
@given(st.sampled_from([name for name in NAMES if name not in OWN]), contexts(), targets)
def test_every_rule_decides_as_upstreams_rule_of_that_name(rule, context, target):
    assert policy.check(rule, context, target) == upstreams(rule, context, target)


checks = st.one_of(
    st.sampled_from(sorted({text for text in upstream.CHECKS.values()})),
    st.builds("role:{} and {}:%({})s".format, st.sampled_from(ROLES), st.sampled_from(["domain_id", "token.domain.id", "user_id", "token.project.domain.id", "token.user.domain.id"]), st.sampled_from(sorted(KEYS))),
    st.sampled_from(["@", "!", "not role:admin", "rule:owner or rule:unknown", "system_scope:all", "is_admin:1", [["role:reader"], ["rule:owner", "role:member"]]]),
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*NAMES, "helper"]), checks, min_size=1, max_size=4), st.sampled_from(NAMES), contexts(), targets)
def test_an_operators_file_changes_a_rule_as_it_does_for_oslo_policy(tmp_path_factory, file, rule, context, target):
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(yaml.safe_dump(file))
    try:
        mine = Policy(RULES, path, SCOPES)
    except ConfigurationError as error:
        assert "circle" in str(error)
        return
    for name in {rule, *(name for name in file if name in RULES)}:
        assert mine.check(name, context, target) == upstream.Oracle(RULES, SCOPES, path.read_text())(name, context, target), name


READER = Context(user_id="u1", project_id="p1", roles=("reader",))
ADMIN = Context(user_id="u2", project_id="p1", roles=("admin",))


@pytest.fixture
def file(tmp_path):
    virtual = clock.VirtualClock()
    before = clock.use(virtual)
    path = tmp_path / "identity-policy.yaml"

    def write(text):
        path.write_text(text)
        virtual.advance(1.0)

    yield path, write
    clock.use(before)


def test_a_changed_file_acts_within_a_second_and_a_broken_one_is_refused(file, caplog):
    path, write = file
    mine = Policy(RULES, path, SCOPES)
    assert not mine.check("identity:list_users", READER, {})
    write('"identity:list_users": "role:reader"\n')
    assert mine.check("identity:list_users", READER, {})
    for broken in ('"identity:list_users": "role:"reader"\n', '"identity:list_users": "role:admin and"\n', "- a list\n", '"identity:list_users": {}\n', '"owner": "rule:owner"\n'):
        with caplog.at_level(logging.ERROR):
            write(broken)
            assert mine.check("identity:list_users", READER, {}), "what is in force stays"
            assert not mine.check("identity:delete_user", READER, {})
            assert mine.check("identity:delete_user", ADMIN, {})
        assert "policy file refused" in caplog.text
        with pytest.raises(ConfigurationError):
            Policy(RULES, path, SCOPES)
        caplog.clear()
    write('"identity:list_users": "!"\n')
    assert not mine.check("identity:list_users", ADMIN, {})


def test_a_file_does_not_widen_the_scopes_of_a_rule(file):
    path, write = file
    write('"identity:list_services": "@"\n"identity:create_trust": "@"\n')
    mine = Policy(RULES, path, SCOPES)
    in_domain = Context(user_id="u1", domain_id="d1", roles=("admin",))
    on_system = Context(user_id="u1", system_scope="all", roles=("admin",))
    assert mine.check("identity:list_services", READER, {}) and mine.check("identity:list_services", on_system, {})
    assert not mine.check("identity:list_services", in_domain, {})
    assert not mine.check("identity:create_trust", on_system, {}) and mine.check("identity:create_trust", READER, {})
