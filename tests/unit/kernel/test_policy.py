"""The policy engine, with oslo.policy as the oracle."""

import dataclasses
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oslo_config import cfg
from oslo_policy import _checks, _parser
from oslo_policy import policy as oslo

from pileus.kernel import clock
from pileus.kernel.context import Context
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.policy import Policy
from pileus.kernel.policy.engine import credentials_of
from pileus.kernel.policy.language import PolicySyntaxError, compile_rule

ROLES = ["admin", "Member", "reader", "service"]
VALUES = ["p1", "p2", "d1", "True", "None", "1", ""]
KEYS = ["project_id", "user_id", "domain_id", "network:tenant_id", "target.user.id", "missing", "flag"]

terms = st.one_of(
    st.sampled_from(["@", "!", "role:admin", "role:ADMIN", "role:nobody", "rule:named", "rule:unknown", "is_admin:True", "is_admin:1", "is_admin:False"]),
    st.builds("{}:%({})s".format, st.sampled_from(["project_id", "user_id", "domain_id", "missing", "system_scope", "is_admin"]), st.sampled_from(KEYS)),
    st.builds("{}:{}".format, st.sampled_from(["project_id", "user_id", "domain_id", "system_scope", "missing", "roles"]), st.sampled_from(["p1", "all", "None", "Member"])),
    st.builds("'{}':%({})s".format, st.sampled_from(["p1", "True", "x"]), st.sampled_from(KEYS)),
    st.builds("{}:%({})s".format, st.sampled_from(["True", "None", "1", "role"]), st.sampled_from(KEYS)),
    st.builds("role:%({})s".format, st.sampled_from(KEYS)),
)


def rules():
    def extend(inner):
        return st.one_of(
            st.builds("({} or {})".format, inner, inner),
            st.builds("({} and {})".format, inner, inner),
            st.builds("({} and not {})".format, inner, inner),
            st.builds("(not {})".format, inner),
            st.builds("( {} OR {} or {} )".format, inner, inner, inner),
        )

    nested = st.recursive(terms, extend, max_leaves=6)
    flat = st.builds("{} {} {}".format, nested, st.sampled_from(["or", "and"]), nested)
    return st.one_of(nested, flat, st.just(""))


contexts = st.builds(
    Context,
    user_id=st.sampled_from(["u1", "p1"]),
    project_id=st.sampled_from([None, "p1", "p2"]),
    domain_id=st.sampled_from([None, "d1"]),
    system_scope=st.sampled_from([None, "all"]),
    roles=st.lists(st.sampled_from(ROLES), unique=True).map(tuple),
)
targets = st.dictionaries(st.sampled_from(KEYS), st.one_of(st.sampled_from(VALUES), st.sampled_from([None, True, False, 1, "reader"])))


class Oracle:
    """oslo.policy's own check of one rule beside the named ones."""

    def __init__(self, named):
        self.enforcer = oslo.Enforcer(cfg.ConfigOpts(), use_conf=False)
        self.enforcer.set_rules(oslo.Rules.from_dict(named), use_conf=False)

    def __call__(self, rule, credentials, target):
        check = _parser.parse_rule(rule)
        return bool(_checks._check(check, target, dict(credentials), self.enforcer, None))


NAMED = {"named": "role:reader or project_id:%(project_id)s", "deeper": "rule:named"}
oracle = Oracle(NAMED)
lookup = {name: compile_rule(rule, lambda name: lookup.get(name)) for name, rule in NAMED.items()}


@settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(rules(), contexts, targets)
def test_every_rule_decides_as_oslo_policy_does(rule, context, target):
    credentials = credentials_of(context)
    assert compile_rule(rule, lookup.get)(credentials, target) == oracle(rule, credentials, target)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(st.one_of(terms, st.lists(terms, max_size=3)), max_size=3), contexts, targets)
def test_the_old_list_form_decides_as_oslo_policy_does(rule, context, target):
    credentials = credentials_of(context)
    assert compile_rule(rule, lookup.get)(credentials, target) == oracle(rule, credentials, target)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["and", "or", "not", "(", ")", "role:admin", "nonsense", "@", "rule:named", "'x", ""]), max_size=6))
def test_what_oslo_policy_cannot_read_is_refused(parts):
    """oslo.policy reads a broken rule as `never` and logs it; here it is an error that stops the start."""
    rule = " ".join(parts)
    context = Context(roles=("admin",))
    try:
        mine = compile_rule(rule, lookup.get)
    except PolicySyntaxError:
        assert not oracle(rule, credentials_of(context), {}) or "nonsense" in rule or "'x" in rule, "it is readable after all"
        return
    assert mine(credentials_of(context), {}) == oracle(rule, credentials_of(context), {})


def test_upstreams_own_kinds_of_rules():
    nested = {"token": {"project": {"domain": {"id": "d1"}}}, "project_id": "p1", "roles": ["x"]}
    for rule, target in [
        ("token.project.domain.id:%(domain_id)s", {"domain_id": "d1"}),
        ("token.project.domain.id:%(target.user.domain_id)s", {"target.user.domain_id": "d1"}),
        ("None:%(target.domain_id)s", {"target.domain_id": None}),
        ("(role:admin and system_scope:all) or project_id:%(project_id)s", {"project_id": "p1"}),
        ("'public':%(visibility)s", {"visibility": "public"}),
        ("field:%(x)s", {"x": "y"}),
    ]:
        assert compile_rule(rule, lookup.get)(nested, target) == oracle(rule, nested, target), rule


@pytest.fixture
def policy_file(tmp_path):
    virtual = clock.VirtualClock()
    before = clock.use(virtual)
    path = tmp_path / "policy.yaml"

    def write(text):
        path.write_text(text)
        virtual.advance(2)

    yield path, write
    clock.use(before)


DEFAULTS = {"things:list": "role:reader", "things:delete": "role:admin"}
READER, ADMIN, NOBODY = (Context(roles=roles) for roles in (("reader",), ("admin",), ()))


def test_a_file_stands_above_the_defaults_and_a_changed_one_acts_at_once(policy_file):
    path, write = policy_file
    policy = Policy(DEFAULTS, path)
    assert [policy.check("things:list", who, {}) for who in (READER, NOBODY)] == [True, False]
    write('"things:list": "!"\n')
    assert not policy.check("things:list", READER, {})
    assert policy.check("things:delete", ADMIN, {}), "what the file does not name stays"
    write('"things:list": "@"\n"helper": "role:x"\n')
    assert policy.check("things:list", NOBODY, {})
    path.unlink()
    clock.sleep(2)
    assert not policy.check("things:list", NOBODY, {})


@pytest.mark.parametrize(
    "text", ["- a list", "things:list: {a: b}", '"things:list": "role:admin or"', '"things:list": "nonsense"', "{unclosed", "a: b: c", "things:list: 7"]
)
def test_a_broken_file_stops_the_start_with_a_sentence_and_is_refused_on_reload(policy_file, text, caplog):
    path, write = policy_file
    write(text)
    with pytest.raises(ConfigurationError) as refused:
        Policy(DEFAULTS, path)
    assert str(path) in str(refused.value) or "things:list" in str(refused.value)
    path.unlink()
    policy = Policy(DEFAULTS, path)
    write(text)
    assert policy.check("things:list", READER, {})
    assert not policy.check("things:delete", READER, {})
    assert "policy file refused" in caplog.text


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"\xff\xfe\x00"), lambda path: path.mkdir()])
def test_a_file_that_cannot_be_read_is_refused_too(policy_file, damage):
    path, _ = policy_file
    policy = Policy(DEFAULTS, path)
    damage(path)
    clock.sleep(2)
    assert policy.check("things:list", READER, {})
    with pytest.raises(ConfigurationError, match="policy.yaml"):
        Policy(DEFAULTS, path)


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_noticed(policy_file, tmp_path):
    path, write = policy_file
    write('"things:list": "@"')
    policy = Policy(DEFAULTS, path)
    assert policy.check("things:list", NOBODY, {})
    stat = path.stat()
    new = tmp_path / "new"
    new.write_text('"things:list": "!"')
    os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    new.replace(path)
    clock.sleep(2)
    assert not policy.check("things:list", READER, {})


def test_an_unknown_rule_allows_nobody_and_rules_may_be_json(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"a": [["role:reader"], ["role:x", "role:y"]]}))
    policy = Policy(DEFAULTS, path)
    assert not policy.check("unknown", ADMIN, {})
    assert policy.check("a", READER, {})
    assert not policy.check("a", dataclasses.replace(READER, roles=("x",)), {})


def test_rules_that_name_each_other_in_a_circle_allow_nobody(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text('a: "rule:b"\nb: "rule:a"\n')
    with pytest.raises(ConfigurationError, match="circle"):
        Policy(DEFAULTS, path)


def test_a_rule_may_take_tokens_of_some_scopes_only_whatever_a_file_says(policy_file):
    path, write = policy_file
    policy = Policy(DEFAULTS, path, {"things:list": {"system", "project"}})
    in_project, in_domain = (dataclasses.replace(READER, **scope) for scope in ({"project_id": "p"}, {"domain_id": "d"}))
    on_system = dataclasses.replace(READER, system_scope="all")
    assert [policy.check("things:list", who, {}) for who in (in_project, in_domain, on_system, READER)] == [True, False, True, True]
    write('"things:list": "@"\n')
    assert not policy.check("things:list", in_domain, {})
    assert policy.check("things:delete", dataclasses.replace(ADMIN, domain_id="d"), {}), "a rule without scopes takes all"
