"""nftables through the `nft` command: one transaction per call, and a view of a table that is enough to compare with.

A chain's first rule may carry a *version* in its comment (`stamp`): the hash of the text of its rules and their number. The kernel keeps no
text that could be compared, but a chain whose stamp and number of rules are right has the rules that were meant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pileus.host.run import CommandError, run

_TIMEOUT = 30.0


@dataclass(slots=True)
class Table:
    """What is loaded: versions of chains ("" for those without), elements of sets, and what the keys of maps lead to."""

    chains: dict[str, str] = field(default_factory=dict)
    sets: dict[str, set[str]] = field(default_factory=dict)
    maps: dict[str, dict[str, str]] = field(default_factory=dict)


def apply(text: str, *, namespace: str | None = None) -> None:
    """Load a text as one transaction: all of it or, with CommandFailed, nothing."""
    run(["nft", "-f", "-"], stdin=text, timeout=_TIMEOUT, namespace=namespace)


def accepts(text: str) -> bool:
    """Whether the kernel would take the text; nothing is changed."""
    try:
        run(["nft", "-c", "-f", "-"], stdin=text, timeout=_TIMEOUT)
    except CommandError:
        return False
    return True


def version(rules: Sequence[str]) -> str:
    """The stamp of a list of rules."""
    digest = hashlib.blake2b("\n".join(rules).encode(), digest_size=8).hexdigest()
    return f"{digest}/{len(rules)}"


def stamp(rules: Sequence[str]) -> str:
    """A rule that does nothing but carry the version of the rules that follow it."""
    return f'continue comment "v={version(rules)}"'


def table(family: str, name: str, *, namespace: str | None = None) -> Table | None:
    """Read a table; None when it is not there."""
    done = run(["nft", "-j", "list", "table", family, name], ok=(0, 1), timeout=_TIMEOUT, namespace=namespace)
    if done.code:
        return None
    found = Table()
    stamps: dict[str, str] = {}
    counts: dict[str, int] = {}
    for entry in msgspec.json.decode(done.stdout)["nftables"]:
        if chain := entry.get("chain"):
            found.chains[chain["name"]] = ""
        elif rule := entry.get("rule"):
            _count(rule, stamps, counts)
        elif each := entry.get("set"):
            found.sets[each["name"]] = {_element(value) for value in each.get("elem", ())}
        elif each := entry.get("map"):
            found.maps[each["name"]] = {_element(key): _verdict(value) for key, value in each.get("elem", ())}
    for chain_name, stamped in stamps.items():
        if stamped.endswith(f"/{counts[chain_name] - 1}"):
            found.chains[chain_name] = stamped
    return found


def delete_table(family: str, name: str, *, namespace: str | None = None) -> None:
    """Remove a table with all in it; none there is fine."""
    apply(f"add table {family} {name}\ndelete table {family} {name}\n", namespace=namespace)


def _count(rule: dict[str, Any], stamps: dict[str, str], counts: dict[str, int]) -> None:
    chain = rule["chain"]
    counts[chain] = counts.get(chain, 0) + 1
    comment = rule.get("comment", "")
    if counts[chain] == 1 and comment.startswith("v="):
        stamps[chain] = comment[2:]


def _element(value: Any) -> str:
    if isinstance(value, dict):
        if "elem" in value:
            return _element(value["elem"]["val"])
        if "prefix" in value:
            return f"{value['prefix']['addr']}/{value['prefix']['len']}"
        if "range" in value:
            return "-".join(str(end) for end in value["range"])
    return str(value)


def _verdict(value: Any) -> str:
    if isinstance(value, dict):
        verdict, detail = next(iter(value.items()))
        return f"{verdict} {detail['target']}" if isinstance(detail, dict) and "target" in detail else str(verdict)
    return str(value)
