"""Options of placement: section `[placement]`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from pileus.kernel.config import Doc


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    max_allocation_candidates: Annotated[
        int,
        Doc(
            "Most candidates one answer holds even if the caller asks for more or sets no limit; -1 for no such bound."
        ),
    ] = -1
    allocation_candidates_generation_strategy: Annotated[
        Literal["depth-first", "breadth-first"],
        Doc(
            "With a limit: fill it from one provider tree after the other, or with one candidate of each tree in turn."
        ),
    ] = "depth-first"
    incomplete_consumer_project_id: Annotated[
        str, Doc("Project of consumers written by callers below microversion 1.8, which name none.")
    ] = "00000000-0000-0000-0000-000000000000"
    incomplete_consumer_user_id: Annotated[
        str, Doc("User of consumers written by callers below microversion 1.8, which name none.")
    ] = "00000000-0000-0000-0000-000000000000"
