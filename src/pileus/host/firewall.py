"""The host's own firewall, as far as it is in the way of guests: packets of our bridges pass the host's FORWARD chains too."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pileus.host.run import CommandError, CommandMissing, run

_FAMILIES = frozenset({"ip", "inet"})
_LEGACY = Path("/proc/net/ip_tables_names")


def forward_policies_that_drop() -> list[str]:
    """Sentences about chains of others that drop forwarded packets unless a rule of theirs accepts them; empty when none does.

    A verdict to accept ends only its own chain, so nothing of ours can overrule them: who owns the chain has to let our bridges (`brq*`, `br-ex`) pass.
    """
    try:
        answer = msgspec.json.decode(run(["nft", "-j", "list", "chains"]).stdout)
    except CommandMissing:
        return []
    found = [
        f"the chain {chain['name']} of table {chain['family']} {chain['table']} drops forwarded packets by policy"
        for entry in answer["nftables"]
        if (chain := entry.get("chain")) and chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain["family"] in _FAMILIES
    ]
    if _LEGACY.exists() and "filter" in _LEGACY.read_text().split():
        try:
            if "-P FORWARD DROP" in run(["iptables-legacy", "-S", "FORWARD"]).stdout.splitlines():
                found.append("the FORWARD chain of iptables (legacy) drops forwarded packets by policy")
        except CommandError:
            pass
    return found
