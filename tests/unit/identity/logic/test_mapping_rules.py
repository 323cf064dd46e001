"""The mapping engine: conditions, placeholders, and what rules come to."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileus.identity.logic import mapping_rules, mapping_schema
from pileus.identity.logic.mapping_rules import Domain, Group, Mapped, Project, Unmapped, User, evaluate
from pileus.kernel import clock
from pileus.kernel.errors import Invalid


def rule(local, *remote):
    return {"local": local if isinstance(local, list) else [local], "remote": list(remote)}


def mapped(assertion, *rules, version="1.0"):
    mapping_schema.check(list(rules), version)
    return evaluate(rules, version, assertion)


NAMED = {"user": {"name": "{0}"}}


def test_names_of_an_assertion_are_those_of_wsgi_or_of_headers():
    for kind in ("HTTP_OIDC_EMAIL", "OIDC-email", "OIDC_EMAIL", "oidc-Email"):
        for told in ("HTTP_OIDC_EMAIL", "OIDC-EMAIL", "oidc_email"):
            assert mapped({told: "a@b"}, rule(NAMED, {"type": kind})).user.name == "a@b"


def test_a_rule_needs_all_its_conditions():
    needs = rule(NAMED, {"type": "name"}, {"type": "kind", "any_one_of": ["staff", "guest"]}, {"type": "kind", "not_any_of": ["banned"]})
    assert mapped({"name": "bob", "kind": "x;guest"}, needs).user.name == "bob"
    for assertion in ({"name": "bob"}, {"kind": "guest"}, {"name": "bob", "kind": "x"}, {"name": "bob", "kind": "guest;banned"}, {"name": "", "kind": "guest"}, {}):
        with pytest.raises(Unmapped):
            mapped(assertion, needs)


def test_conditions_by_regular_expression():
    needs = rule(NAMED, {"type": "name"}, {"type": "mail", "any_one_of": [r"@example\.(com|org)$"], "regex": True})
    assert mapped({"name": "bob", "mail": "b@example.org"}, needs).user.name == "bob"
    with pytest.raises(Unmapped):
        mapped({"name": "bob", "mail": "b@example.org.evil"}, needs)
    not_one = rule(NAMED, {"type": "name"}, {"type": "mail", "not_any_of": ["^root@"], "regex": True})
    assert mapped({"name": "bob", "mail": "b@x"}, not_one).user.name == "bob"
    with pytest.raises(Unmapped):
        mapped({"name": "bob", "mail": "b@x;root@x"}, not_one)


@pytest.mark.parametrize(
    ("filter_", "groups"),
    [
        ({}, ("a1", "b2", "a3")),
        ({"whitelist": ["a1", "zz"]}, ("a1",)),
        ({"whitelist": []}, ()),
        ({"blacklist": ["a1", "zz"]}, ("b2", "a3")),
        ({"blacklist": []}, ("a1", "b2", "a3")),
        ({"whitelist": ["^a"], "regex": True}, ("a1", "a3")),
        ({"blacklist": ["^a"], "regex": True}, ("b2",)),
    ],
)
def test_values_are_filtered_before_they_are_passed_on(filter_, groups):
    local = {"groups": "{1}", "domain": {"id": "d"}, "user": {"name": "{0}"}}
    found = mapped({"name": "bob", "groups": "a1;b2;a3"}, rule(local, {"type": "name"}, {"type": "groups", **filter_}))
    assert found == Mapped(User(name="bob"), groups=tuple(Group(name, Domain("d")) for name in groups))


def test_placeholders_count_only_conditions_that_pass_values_on():
    found = mapped(
        {"first": "Bob", "kind": "staff", "last": "Thompson", "mail": "b@t"},
        rule({"user": {"name": "{0} {1}", "email": "{2}"}}, {"type": "first"}, {"type": "kind", "any_one_of": ["staff"]}, {"type": "last"}, {"type": "mail"}),
    )
    assert found.user == User(name="Bob Thompson", email="b@t")


def test_what_is_said_is_never_a_template():
    found = mapped({"name": "{1}{0.__class__}", "secret": "s"}, rule({"user": {"name": "{0}", "email": "{{0}}"}}, {"type": "name"}, {"type": "secret"}))
    assert found.user == User(name="{1}{0.__class__}", email="{{1}{0.__class__}}")


def test_values_that_look_like_lists_are_values():
    local = {"group_ids": "{0}", "groups": "{0}", "domain": {"name": "d"}}
    found = mapped({"g": "['admins']"}, rule(local, {"type": "g"}))
    assert (found.group_ids, found.groups) == (("['admins']",), (Group("['admins']", Domain(name="d")),))


def test_groups_in_every_form():
    found = mapped(
        {"name": "bob", "ids": "i2;i1"},
        rule(
            [
                {"user": {"name": "{0}"}, "group": {"id": "i1"}},
                {"group": {"name": "staff", "domain": {"name": "d"}}},
                {"group_ids": "{1}"},
                {"groups": "['x', 'y']", "domain": {"id": "d"}},
                {"groups": "of-{0}", "domain": {"id": "d"}},
            ],
            {"type": "name"},
            {"type": "ids"},
        ),
    )
    assert found.group_ids == ("i1", "i2")
    assert found.groups == (Group("staff", Domain(name="d")), Group("x", Domain("d")), Group("y", Domain("d")), Group("of-bob", Domain("d")))


def test_all_fitting_rules_count_and_the_first_user():
    found = mapped(
        {"a": "1", "b": "2"},
        rule([{"user": {"name": "from-{0}"}}, {"group": {"id": "g"}}], {"type": "a"}),
        rule([{"user": {"name": "second"}, "group": {"id": "h"}}], {"type": "b"}),
        rule({"group": {"id": "never"}}, {"type": "c"}),
    )
    assert found == Mapped(User(name="from-1"), group_ids=("g", "h"))


def test_a_local_user():
    found = mapped({"n": "bob"}, rule({"user": {"name": "{0}", "type": "local", "domain": {"id": "default"}}}, {"type": "n"}))
    assert found.user == User(name="bob", domain=Domain("default"), local=True)


def test_domains_of_users_and_projects_since_schema_2():
    local = {"user": {"name": "{0}"}, "domain": {"name": "{1}"}, "projects": [{"name": "p-{0}", "roles": [{"name": "member"}]}]}
    needs = rule(local, {"type": "name"}, {"type": "org"})
    assertion = {"name": "bob", "org": "acme"}
    assert mapped(assertion, needs) == Mapped(User(name="bob"), projects=(Project("p-bob", ("member",)),))
    acme = Domain(name="acme")
    assert mapped(assertion, needs, version="2.0") == Mapped(User(name="bob", domain=acme), projects=(Project("p-bob", ("member",), acme),))
    own = {**local, "user": {"name": "{0}", "domain": {"id": "u"}}, "projects": [{**local["projects"][0], "domain": {"id": "p"}}]}
    found = mapped(assertion, rule(own, {"type": "name"}, {"type": "org"}), version="2.0")
    assert (found.user.domain, found.projects[0].domain) == (Domain("u"), Domain("p"))


def test_regular_expressions_that_run_away_are_stopped():
    bad = r"^(([a-z])+.)+[A-Z]([a-z])+$"
    rules = [rule(NAMED, {"type": "name", "blacklist": [bad], "regex": True}) for _ in range(20)]
    began = clock.monotonic()
    with pytest.raises(Unmapped, match="TimeoutError"):
        mapped({"name": "a" * 2000}, *rules)
    assert clock.monotonic() - began < 10 * mapping_rules.REGEX_SECONDS, "twenty of them take no longer than one"
    with pytest.raises(Unmapped, match="too long"):
        mapped({"name": "a" * 2049}, rule(NAMED, {"type": "name", "blacklist": ["b"], "regex": True}))


# Properties ------------------------------------------------------------------------------------------------------------

_words = st.text(string.ascii_letters + string.digits + "{}[]'\".-_; ", max_size=12)
_names = st.sampled_from(["OIDC-a", "HTTP_OIDC_B", "c", "D"])
_assertions = st.dictionaries(_names, _words, max_size=4)
_filters = st.one_of(
    st.just({}),
    st.builds(lambda kind, values: {kind: values}, st.sampled_from(["any_one_of", "not_any_of", "whitelist", "blacklist"]), st.lists(_words, max_size=3)),
    st.builds(lambda kind, value: {kind: [value], "regex": True}, st.sampled_from(["any_one_of", "whitelist"]), st.sampled_from(["a", "^b", "[0-9]+$", "."])),
)
_conditions = st.builds(lambda name, more: {"type": name, **more}, _names, _filters)
_templates = st.sampled_from(["{0}", "{1}", "x{0}y", "plain", "{0}{0}", "['p', 'q']", "{9}", ""])
_domains = st.sampled_from([{"id": "d"}, {"name": "{0}"}, {}])
_locals = st.fixed_dictionaries(
    {},
    optional={
        "user": st.fixed_dictionaries({}, optional={"name": _templates, "id": _templates, "type": st.sampled_from(["local", "ephemeral", "x"]), "domain": _domains}),
        "group": st.one_of(st.builds(lambda one: {"id": one}, _templates), st.builds(lambda one, where: {"name": one, "domain": where}, _templates, _domains)),
        "groups": _templates,
        "group_ids": _templates,
        "domain": _domains,
        "projects": st.lists(st.fixed_dictionaries({"name": _templates, "roles": st.lists(st.builds(lambda one: {"name": one}, _templates), max_size=2)}), max_size=2),
    },
)
_rules = st.lists(st.builds(lambda local, remote: {"local": local, "remote": remote}, st.lists(_locals, max_size=3), st.lists(_conditions, min_size=1, max_size=3)), min_size=1, max_size=3)


@settings(max_examples=400, deadline=None)
@given(_rules, _assertions, st.sampled_from(mapping_schema.VERSIONS))
def test_what_the_check_lets_in_never_breaks_the_engine(rules, assertion, version):
    try:
        mapping_schema.check(rules, version)
    except Invalid:
        return
    try:
        found = evaluate(rules, version, assertion)
    except Unmapped:
        return
    assert found == evaluate(rules, version, {name.upper().replace("-", "_"): told for name, told in assertion.items()})
    texts = [found.user.name, found.user.id, *found.group_ids, *(group.name for group in found.groups)]
    assert all(isinstance(text, (str, type(None))) for text in texts)


_json = st.recursive(st.none() | st.booleans() | st.integers() | _words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["local", "remote", "user", "type", "name", "group", "domain", "regex", "whitelist", "roles", "projects"]), inner, max_size=4), max_leaves=20)


@settings(max_examples=400, deadline=None)
@given(_json)
def test_whatever_is_sent_is_accepted_or_refused(document):
    try:
        mapping_schema.check(document, "2.0")
    except Invalid as refused:
        assert refused.message.startswith("Invalid mapping: ")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=4), min_size=1, max_size=6), st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=4), max_size=4))
def test_whitelist_and_blacklist_share_the_values_between_them(values, listed):
    local = {"group_ids": "{0}"}
    assertion = {"g": ";".join(values)}
    allowed = mapped(assertion, rule(local, {"type": "g", "whitelist": listed})).group_ids
    denied = mapped(assertion, rule(local, {"type": "g", "blacklist": listed})).group_ids
    assert set(allowed) | set(denied) == set(values)
    assert not set(allowed) & set(denied)
    assert set(allowed) <= set(listed)
