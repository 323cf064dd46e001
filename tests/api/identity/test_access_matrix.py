"""Who may do what with whose things: every operation by every persona, against a reviewed table and against oslo.policy."""

from __future__ import annotations

import pytest

from pileus.identity.policy import RULES, SCOPES
from tests.api.identity import personas as matrix
from tests.api.identity import upstream
from tests.api.identity.personas import COLUMNS, RELATIONS, TABLE, Personas

OWN = {"identity:get_revision", *(rule for rule in RULES if "node" in rule)}
"""Rules of operations that upstream does not have."""


@pytest.fixture(scope="module")
def personas(tmp_path_factory):
    made = Personas(tmp_path_factory.mktemp("personas"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def rows(personas):
    return list(personas.rows())


def test_the_table_says_what_the_operations_do(rows):
    """A new operation or rule is seen here: `python -m tests.api.identity.personas` writes the table, which is then reviewed."""
    now, then = matrix.rendered(rows).splitlines(), TABLE.read_text().splitlines()
    difference = [f"- {line}" for line in then if line not in now] + [f"+ {line}" for line in now if line not in then]
    assert not difference, "\n".join(difference)


def test_every_answer_is_that_of_oslo_policy_with_upstreams_rules(rows):
    upstreams = upstream.Oracle(upstream.CHECKS, upstream.SCOPES)
    ours = upstream.Oracle(RULES, SCOPES)
    seen = set()
    for name, _query, found in rows:
        for who, by_relation in found.items():
            for relation, asked in by_relation.items():
                for one in asked:
                    oracle = ours if one.rule in OWN else upstreams
                    assert oracle(one.rule, one.context, one.target) == one.allowed, (name, who, relation, one.rule, one.target)
                    seen.add((one.rule, one.allowed))
    assert {rule for rule, allowed in seen if allowed} == {rule for rule, _ in seen}, "a rule that lets nobody in"


def test_what_is_answered_before_the_policy_is_answered_to_everybody(rows):
    for name, query, found in rows:
        decided = {bool(found[who][relation]) for who in COLUMNS if who != "nobody" for relation in RELATIONS}
        assert len(decided) == 1, f"{name}?{query}: some callers learn what exists before they are refused"


def test_every_operation_asks_its_own_rule(rows):
    """Or one for a narrower case of the same: a domain's roles, the own trusts, a tree of projects."""
    narrower = {"identity:list_domain_roles", "identity:list_role_assignments_for_tree"}
    narrower |= {"identity:list_trusts_for_trustor", "identity:list_trusts_for_trustee"}
    rules = {f"{operation.method} {operation.path}": operation.rule for operation in matrix.OPERATIONS}
    for name, query, found in rows:
        for by_relation in found.values():
            for asked in by_relation.values():
                for one in asked:
                    assert one.rule == rules[name] or (query and one.rule in narrower), (name, one.rule)


def test_the_things_of_strangers_are_for_administrators_and_system_readers_alone(rows):
    """Read off the answers and not off the rules: what a foreign domain has is closed to all others."""
    public = ("/regions", "/registered_limits", "/limits", "/auth/", "/credentials", "/OS-REVOKE", "/ec2tokens", "/s3tokens")
    about = ("{user_id}", "{project_id}", "{domain_id}", "{group_id}", "{trust_id}", "{credential_id}", "{access}")
    ordinary = ("roleless", "p-reader", "p-member", "p-manager", "d-reader", "d-manager", "service")
    for name, _query, found in rows:
        if any(part in name for part in about):
            for who in ordinary:
                assert not found[who]["f"] or not found[who]["f"][-1].allowed, f"{who} may {name} abroad"
        elif name.startswith(("POST", "PATCH", "PUT", "DELETE")) and not any(part in name for part in public):
            for who in ordinary:
                assert not found[who]["f"] or not found[who]["f"][-1].allowed, f"{who} may {name} abroad"


ORDINARY = ("nobody", "roleless", "p-reader", "p-member", "p-manager", "d-reader", "d-manager", "service")
WIDE = ["", "limit=100", "include_names&effective", "domain_id=", "name__contains=", "user_id=", "is_domain=true", "include_subtree", "parents_as_list&subtree_as_list"]


@pytest.mark.parametrize("who", ORDINARY)
def test_no_list_and_no_error_shows_what_is_foreign_or_a_neighbours(personas, who):
    """Whatever an ordinary caller reads, nothing in it names a thing of another domain, or a credential, key or trust of somebody else."""
    foreign, home = (personas.places[who, relation].ids for relation in "fh")
    hidden = {name: one for name, one in foreign.items() if name not in {"role_id"}}
    hidden |= {f"{name} of a neighbour": home[name] for name in ("credential_id", "access", "trust_id")}
    for operation in matrix.OPERATIONS:
        if operation.method == "GET":
            for query in WIDE:
                text = personas.look(operation, who, "s", query)
                shown = [name for name, one in hidden.items() if one in text]
                assert not shown, f"{who} sees {shown} by GET {operation.path}?{query}: {text[:600]}"


@pytest.mark.parametrize("who", ["d-reader", "d-manager"])
def test_who_reads_a_domain_sees_all_that_is_in_it(personas, who):
    """The test above would be content with lists that are empty."""
    ids = personas.places[who, "h"].ids
    for path, name in (("/users", "user_id"), ("/groups", "group_id"), ("/projects", "project_id"), ("/domains", "domain_id"), ("/role_assignments", "project_id")):
        operation = next(one for one in matrix.OPERATIONS if (one.method, one.path) == ("GET", path))
        assert ids[name] in personas.look(operation, who, "h"), path
