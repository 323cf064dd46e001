"""What a query string asks of providers: resources, traits, aggregates, trees.

The grammar of `resources`, `required`, `member_of` and `in_tree`, each with an optional group suffix, in the forms the microversions allow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pileus.kernel import ids
from pileus.kernel.web import Query
from pileus.kernel.web.microversions import Version
from pileus.placement.errors import BadQueryValue, BadRequest, MissingQueryValue, RepeatedQueryKey
from pileus.placement.logic.model import CandidatesRequest, Group

_GROUP_KEY = re.compile(r"(resources|required|member_of|in_tree)(.*)\Z", re.DOTALL)
_SUBTREE = (1, 36)


def parse_resources(text: str) -> dict[str, int]:
    """`VCPU:2,MEMORY_MB:512` as amounts by class."""
    shown = text.strip() or "empty string"
    form = (
        "Badly formed resources parameter. Expected resources query string parameter in form: "
        f"?resources=VCPU:2,MEMORY_MB:1024. Got: {shown}."
    )
    if not text.strip():
        raise BadQueryValue(form)
    amounts: dict[str, int] = {}
    for part in text.split(","):
        name, colon, amount = part.partition(":")
        if not colon:
            raise BadQueryValue(form.replace(f"Got: {shown}.", f"Got: {part}."))
        try:
            value = int(amount)
        except ValueError:
            raise BadQueryValue(f"Requested resource {name} expected positive integer amount. Got: {amount}.") from None
        if value < 1:
            raise BadQueryValue(f"Requested resource {name} requires amount >= 1. Got: {value}.")
        amounts[name] = value
    return amounts


def parse_traits(values: Sequence[str], version: Version) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """`required` values as (sets of which one each is needed, forbidden traits)."""
    example = "HW_CPU_X86_VMX,CUSTOM_MAGIC" if version < (1, 22) else "HW_CPU_X86_VMX,!CUSTOM_MAGIC"
    required: list[frozenset[str]] = []
    forbidden: set[str] = set()
    for text in values if version >= (1, 39) else values[-1:]:
        if text.startswith("in:"):
            if version < (1, 39):
                raise BadRequest(
                    "Invalid query string parameters: "
                    "The format 'in:HW_CPU_X86_VMX,CUSTOM_MAGIC' only supported since microversion 1.39."
                )
            required.append(_any_of(text))
            continue
        names = [name.strip() for name in text.split(",")]
        if not all(name.lstrip("!") for name in names) or (version < (1, 22) and "!" in text):
            raise BadRequest(
                f"Invalid query string parameters: Expected 'required' parameter value of the form: {example}. Got: {text}"
            )
        required += [frozenset((name,)) for name in names if not name.startswith("!")]
        forbidden.update(name[1:] for name in names if name.startswith("!"))
    clash = sorted(forbidden & {name for needed in required if len(needed) == 1 for name in needed})
    if clash:
        raise BadRequest(f"Conflicting required and forbidden traits found in query: {', '.join(clash)}")
    return tuple(dict.fromkeys(required)), frozenset(forbidden)


def _any_of(text: str) -> frozenset[str]:
    names = [name.strip() for name in text.removeprefix("in:").split(",")]
    if not all(names) or any(name.startswith("!") for name in names):
        raise BadRequest(
            "Invalid query string parameters: Expected 'required' parameter value of the form: "
            f"in:HW_CPU_X86_VMX,CUSTOM_MAGIC. Got: {text}"
        )
    return frozenset(names)


def parse_member_of(values: Sequence[str], version: Version) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """`member_of` values as (sets of which one aggregate each is needed, forbidden aggregates)."""
    if len(values) > 1 and version < (1, 24):
        raise BadRequest("Multiple member_of parameters are not supported")
    required: list[frozenset[str]] = []
    forbidden: set[str] = set()
    for given in values:
        negative = given.startswith("!")
        if negative and version < (1, 32):
            raise BadRequest(
                "Invalid query string parameters: "
                "Forbidden member_of parameters are not supported in the specified microversion"
            )
        text = given.removeprefix("!")
        listed = text.startswith("in:")
        aggregates = [part.strip() for part in text.removeprefix("in:").split(",")]
        if len(aggregates) > 1 and not listed:
            raise BadRequest(
                "Invalid query string parameters: Multiple values for 'member_of' must be prefixed with the "
                "'in:' or '!in:' keyword using the valid microversion."
            )
        if not all(ids.is_uuid_like(aggregate) for aggregate in aggregates):
            raise BadRequest(
                f"Invalid query string parameters: Expected 'member_of' parameter to contain valid UUID(s). Got: {given}"
            )
        if negative:
            forbidden.update(aggregates)
        else:
            required.append(frozenset(aggregates))
    return tuple(required), frozenset(forbidden)


def parse_in_tree(text: str) -> str:
    if not ids.is_uuid_like(text):
        raise BadRequest(
            f"Invalid query string parameters: Expected 'in_tree' parameter to be a format of uuid. Got: {text}"
        )
    return text


def candidates_request(query: Query, version: Version, most: int) -> CandidatesRequest:
    """Read and check the query of `GET /allocation_candidates` (its keys are already known to exist at this version).

    `most` bounds the limit; -1 does not.
    """
    suffixes: dict[str, dict[str, list[str]]] = {}
    other = {"limit", "group_policy", "root_required", "same_subtree"}
    for key in query:
        found = _GROUP_KEY.match(key)
        if found and key not in other:
            suffixes.setdefault(found.group(2), {})[found.group(1)] = query.all(key)
    groups = {suffix: _group(suffix, parts, version) for suffix, parts in sorted(suffixes.items())}
    same_subtrees = _same_subtrees(query.all("same_subtree"), set(groups))
    _check_groups(groups, same_subtrees, version)
    isolating = [suffix for suffix, group in groups.items() if suffix and group.resources]
    policy = query.all("group_policy")
    if len(isolating) > 1 and not policy:
        raise MissingQueryValue(
            'The "group_policy" parameter is required when specifying more than one "resources{N}" parameter.'
        )
    root_required, root_forbidden = _root_traits(query.all("root_required"))
    limits = [int(value) for value in query.all("limit")[:1]] + ([most] if most >= 0 else [])
    return CandidatesRequest(
        groups=tuple(groups.values()),
        limit=min(limits) if limits else None,
        isolate=bool(policy) and policy[0] == "isolate",
        root_required=root_required,
        root_forbidden=root_forbidden,
        same_subtrees=same_subtrees,
        nested=version >= (1, 29),
    )


def _group(suffix: str, parts: dict[str, list[str]], version: Version) -> Group:
    required, forbidden = parse_traits(parts["required"], version) if "required" in parts else ((), frozenset[str]())
    member_of, not_member_of = (
        parse_member_of(parts["member_of"], version) if "member_of" in parts else ((), frozenset[str]())
    )
    return Group(
        suffix=suffix,
        resources=parse_resources(parts["resources"][0]) if "resources" in parts else {},
        required=required,
        forbidden=forbidden,
        member_of=member_of,
        not_member_of=not_member_of,
        in_tree=parse_in_tree(parts["in_tree"][-1]) if "in_tree" in parts else None,
    )


def _check_groups(groups: dict[str, Group], same_subtrees: tuple[frozenset[str], ...], version: Version) -> None:
    if not groups:
        raise MissingQueryValue("At least one request group (`resources` or `resources{$S}`) is required.")
    if version >= _SUBTREE:
        if not any(group.resources for group in groups.values()):
            raise MissingQueryValue("There must be at least one resources or resources[$S] parameter.")
        tied = frozenset[str]().union(*same_subtrees)
        loose = [suffix for suffix, group in groups.items() if suffix and not group.resources and suffix not in tied]
        if loose:
            raise BadQueryValue(
                "Resourceless suffixed group request should be specified in `same_subtree` query param: "
                f"bad group(s) - {loose}."
            )
        return
    for word, orphaned in (
        ("traits", [f"required{s}" for s, g in groups.items() if not g.resources and (g.required or g.forbidden)]),
        (
            "member_of",
            [f"member_of{s}" for s, g in groups.items() if not g.resources and (g.member_of or g.not_member_of)],
        ),
    ):
        if orphaned:
            key = "required" if word == "traits" else word
            raise BadQueryValue(
                f"All {key} parameters must be associated with resources. "
                f"Found the following orphaned {word} keys: {', '.join(sorted(orphaned))}"
            )
    if not all(group.resources for group in groups.values()):
        raise MissingQueryValue("All request groups must specify resources.")


def _same_subtrees(values: Sequence[str], known: set[str]) -> tuple[frozenset[str], ...]:
    sets: list[frozenset[str]] = []
    for value in values:
        names = frozenset(name.strip() for name in value.split(","))
        if "" in names:
            raise BadQueryValue("Empty string (unsuffixed group) can not be specified in `same_subtree` ")
        if not names <= known:
            raise BadQueryValue(
                f"Real suffixes should be specified in `same_subtree`: {sorted(names - known)} not found in {sorted(known)}."
            )
        sets.append(names)
    return tuple(sets)


def _root_traits(values: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    if not values:
        return frozenset(), frozenset()
    if len(values) > 1:
        raise RepeatedQueryKey("Query parameter 'root_required' may be specified only once.")
    if values[0].startswith("in:"):
        raise BadQueryValue("The format 'in:TRAIT,TRAIT' is not supported in root_required.")
    names = [name.strip() for name in values[0].split(",")]
    if not all(name.lstrip("!") for name in names):
        raise BadQueryValue(
            f"Expected 'root_required' parameter value of the form: HW_CPU_X86_VMX,!CUSTOM_MAGIC. Got: {values[0]}"
        )
    required = frozenset(name for name in names if not name.startswith("!"))
    forbidden = frozenset(name[1:] for name in names if name.startswith("!"))
    if required & forbidden:
        raise BadQueryValue(
            f"Conflicting required and forbidden traits found in root_required: {', '.join(sorted(required & forbidden))}"
        )
    return required, forbidden
