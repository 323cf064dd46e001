"""What a room says about one of its resources for `pileus why`: how it is, and what happens next without anybody's doing."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Explained:
    """`related` are other resources whose work is this one's too: the server of a port."""

    kind: str
    now: str
    next: str
    related: tuple[str, ...] = ()
