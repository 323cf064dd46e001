"""nftables tables of ours that are kept in step with what is wanted, one transaction per change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pileus.host import nft
from pileus.host.run import CommandError

Rules = tuple[str, ...]


@dataclass(slots=True)
class Change:
    """Parts of a table as they shall be; None removes. Maps are changed key by key, chains and sets as a whole."""

    chains: dict[str, Rules | None] = field(default_factory=dict)
    sets: dict[str, frozenset[str] | None] = field(default_factory=dict)
    maps: dict[str, dict[str, str | None]] = field(default_factory=dict)

    def add(self, other: Change) -> None:
        self.chains.update(other.chains)
        self.sets.update(other.sets)
        for name, entries in other.maps.items():
            self.maps.setdefault(name, {}).update(entries)


class TableKeeper:
    """One table and what is known to be in it. What is known comes from the host and follows each change that the kernel took.

    `hooks` gives the declaration of each base chain, `types` that of each set and map (by the longest matching prefix of its name).
    """

    def __init__(self, family: str, name: str, *, hooks: Callable[[str], str | None], types: Mapping[str, str], namespace: str | None = None) -> None:
        self._where = f"{family} {name}"
        self._key = (family, name)
        self._namespace = namespace
        self._hooks = hooks
        self._types = types
        self._known: nft.Table | None = None

    @property
    def known(self) -> nft.Table:
        if self._known is None:
            self._known = nft.table(*self._key, namespace=self._namespace)
        if self._known is None:
            nft.apply(f"add table {self._where}\n", namespace=self._namespace)
            self._known = nft.Table()
        return self._known

    def forget(self) -> None:
        """Read the table from the host before the next comparison."""
        self._known = None

    def apply(self, change: Change) -> bool:
        """Make the change as one transaction; False when nothing differed. After CommandError the table is as it was."""
        text = self._render(change)
        if not text:
            return False
        try:
            nft.apply(text, namespace=self._namespace)
        except CommandError:
            self.forget()
            raise
        self._remember(change)
        return True

    def remove(self) -> None:
        nft.delete_table(*self._key, namespace=self._namespace)
        self.forget()

    def _render(self, change: Change) -> str:
        before, after = list[str](), list[str]()
        self._render_sets(change, before, after)
        jumps = list[str]()
        self._render_maps(change, before, jumps)
        rules = list[str]()
        for name, wanted in change.chains.items():
            loaded = self.known.chains.get(name)
            if wanted is None:
                if loaded is not None:
                    rules.append(f"flush chain {self._where} {name}")
                    after.insert(0, f"delete chain {self._where} {name}")
            elif loaded != nft.version(wanted):
                if loaded is None:
                    hook = self._hooks(name)
                    before.append(f"add chain {self._where} {name}" + (f" {{ {hook} ; }}" if hook else ""))
                else:
                    rules.append(f"flush chain {self._where} {name}")
                rules += [f"add rule {self._where} {name} {rule}" for rule in (nft.stamp(wanted), *wanted)]
        lines = [*before, *rules, *jumps, *after]
        return "".join(f"{line}\n" for line in lines)

    def _render_sets(self, change: Change, before: list[str], after: list[str]) -> None:
        for name, wanted in change.sets.items():
            loaded = self.known.sets.get(name)
            if wanted is None:
                if loaded is not None:
                    after.append(f"delete set {self._where} {name}")
                continue
            if loaded is None:
                before.append(f"add set {self._where} {name} {{ {self._type(name)} ; }}")
            before += self._elements("delete", name, (loaded or set()) - wanted)
            before += self._elements("add", name, wanted - (loaded or set()))

    def _render_maps(self, change: Change, before: list[str], jumps: list[str]) -> None:
        for name, entries in change.maps.items():
            loaded = self.known.maps.get(name)
            if loaded is None:
                before.append(f"add map {self._where} {name} {{ {self._type(name)} ; }}")
                loaded = {}
            jumps += self._elements("delete", name, {f'"{key}"' for key, value in entries.items() if key in loaded and loaded[key] != value})
            jumps += self._elements(
                "add", name, {f'"{key}" : {value}' for key, value in entries.items() if value is not None and loaded.get(key) != value}
            )

    def _elements(self, verb: str, name: str, elements: Iterable[str]) -> list[str]:
        given = sorted(elements)
        return [f"{verb} element {self._where} {name} {{ {', '.join(given)} }}"] if given else []

    def _type(self, name: str) -> str:
        return next(text for prefix, text in sorted(self._types.items(), reverse=True) if name.startswith(prefix))

    def _remember(self, change: Change) -> None:
        known = self.known
        for name, wanted in change.chains.items():
            if wanted is None:
                known.chains.pop(name, None)
            else:
                known.chains[name] = nft.version(wanted)
        for name, members in change.sets.items():
            if members is None:
                known.sets.pop(name, None)
            else:
                known.sets[name] = set(members)
        for name, entries in change.maps.items():
            loaded = known.maps.setdefault(name, {})
            for key, value in entries.items():
                if value is None:
                    loaded.pop(key, None)
                else:
                    loaded[key] = value
