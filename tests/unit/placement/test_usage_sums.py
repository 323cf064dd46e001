"""Whatever is done, the usage sums are the sums of the allocations, and readers see what the database has."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from pileus.kernel.errors import Failure
from pileus.kernel.testing import make_client
from pileus.placement.logic import allocations, inventories, providers
from pileus.placement.logic.allocations import ANY, Change
from pileus.placement.room import ROOM
from pileus.placement.store import snapshot
from pileus.placement.store.tables import allocations as held
from pileus.placement.store.tables import inventories as stock

HOSTS = [str(uuid.uuid5(uuid.NAMESPACE_DNS, f"host{n}")) for n in range(3)]
CONSUMERS = [str(uuid.uuid5(uuid.NAMESPACE_DNS, f"consumer{n}")) for n in range(3)]
CLASSES = ("VCPU", "DISK_GB")

amounts = st.dictionaries(st.sampled_from(CLASSES), st.integers(1, 6), min_size=1)
changes = st.dictionaries(
    st.sampled_from(CONSUMERS), st.dictionaries(st.sampled_from(HOSTS), amounts, max_size=2), min_size=1, max_size=2
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), changes),
        st.tuples(st.just("delete"), st.sampled_from(CONSUMERS)),
        st.tuples(st.just("stock"), st.tuples(st.sampled_from(HOSTS), st.dictionaries(st.sampled_from(CLASSES), st.integers(1, 9)))),
        st.tuples(st.just("drop"), st.tuples(st.sampled_from(HOSTS), st.sampled_from(CLASSES))),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_sums_and_memories_agree_with_the_rows(work):
    client = make_client(ROOM)
    service = client.service
    try:
        for number, host in enumerate(HOSTS):
            providers.create_provider(service, f"host{number}", host, None)
            rows = {name: inventories.complete({"total": 8}) for name in CLASSES}
            inventories.replace_inventories(service, host, 0, rows)
        for step in work:
            try:
                take(service, *step)
            except Failure:
                pass
            check(service)
    finally:
        client.close()


def take(service, kind, what):
    if kind == "set":
        wanted = [Change(key, given_, "p", "u", "INSTANCE", ANY) for key, given_ in what.items()]
        allocations.set_allocations(service, wanted)
    elif kind == "delete":
        allocations.delete_allocations(service, what)
    elif kind == "stock":
        host, totals = what
        rows = {name: inventories.complete({"total": total}) for name, total in totals.items()}
        inventories.replace_inventories(service, host, providers.get_provider(service, host)["generation"], rows)
    else:
        inventories.delete_inventory(service, *what)


def check(service):
    total = sa.func.coalesce(sa.func.sum(held.c.used), 0)
    joined = stock.outerjoin(
        held, sa.and_(held.c.provider_id == stock.c.provider_id, held.c.resource_class == stock.c.resource_class)
    )
    query = (
        sa.select(stock.c.provider_id, stock.c.resource_class, stock.c.used, total)
        .select_from(joined)
        .group_by(stock.c.provider_id, stock.c.resource_class, stock.c.used)
    )
    with service.db.read() as conn:
        rows = conn.execute(query).all()
    now = snapshot.current(service.db)
    remembered = {(p.id, name): inv.used for p in now.by_id.values() for name, inv in p.inventories.items()}
    assert all(used == summed for _, _, used, summed in rows)
    assert remembered == {(provider, name): used for provider, name, used, _ in rows}
