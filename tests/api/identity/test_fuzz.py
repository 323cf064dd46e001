"""Whatever is sent, identity answers in its own words: no 500, every status as documented, every error in the fault format.

`make fuzz` sends more of it, from another seed each time (`--seed` repeats one).
"""

from __future__ import annotations

import logging
import random

import pytest
import sqlalchemy as sa

from pileus.identity.store.tables import METADATA
from tests.api.identity.fuzzing import Fuzzer
from tests.api.identity.world import Identity
from tests.databases import KINDS, database_url

USUAL = {"sqlite": 32, "postgresql": 17, "mariadb": 14}
"""Requests for each operation."""


@pytest.fixture(params=KINDS)
def fuzzer(request, tmp_path, pytestconfig):
    seed = pytestconfig.getoption("--seed") or (random.randrange(1, 2**31) if pytestconfig.getoption("--requests") else 7)
    with database_url(request.param, tmp_path) as url:
        names = {"saml_idp_entity_id": "https://x/idp", "saml_idp_sso_endpoint": "https://x/sso"}
        made = Identity(db_url=url, home=tmp_path / "home", options=names)
        fuzzer = Fuzzer(made, seed)
        fuzzer.wanted = pytestconfig.getoption("--requests") or USUAL[request.param] * len(fuzzer.operations)
        fuzzer.seed = seed
        yield fuzzer
        made.client.close()


def too_long(identity):
    """What only SQLite stores: text longer than its column."""
    found = []
    with identity.service.db.read() as conn:
        for table in METADATA.sorted_tables:
            for column in table.columns:
                if isinstance(column.type, sa.String) and column.type.length:
                    most = conn.execute(sa.select(sa.func.max(sa.func.length(column)))).scalar()
                    if most is not None and most > column.type.length:
                        found.append(f"{column} has {most} characters")
    return found


@pytest.mark.timeout(0)
def test_whatever_comes_in_is_answered_as_the_document_says(fuzzer, caplog):
    wrong = []
    with caplog.at_level(logging.ERROR):
        for number, request in zip(range(fuzzer.wanted), fuzzer.requests(), strict=False):
            if number % 500 == 0:
                fuzzer.still_there()
            caplog.clear()
            if (what := fuzzer.send(request)) is not None:
                wrong.append(f"{what}\n    {request}\n    {caplog.text[-900:]}")
            else:
                assert not caplog.records, f"an error was logged for {request}: {caplog.text}"
            if len(wrong) >= 10:
                break
    assert not wrong, f"seed {fuzzer.seed}:\n" + "\n".join(wrong)
    assert not too_long(fuzzer.identity)
    succeeded = {name for name, statuses in fuzzer.seen.items() if any(status < 300 for status in statuses)}
    assert len(fuzzer.seen) == len(fuzzer.operations)
    assert len(succeeded) > len(fuzzer.operations) * 0.4, sorted(set(fuzzer.seen) - succeeded)
