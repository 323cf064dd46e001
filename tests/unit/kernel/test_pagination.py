"""Pages by key: walking them gives every row once, in order, whatever is NULL or equal."""

import itertools

import pytest
import sqlalchemy as sa

from pileus.kernel.db import NAMING, Database
from pileus.kernel.errors import Invalid
from pileus.kernel.pagination import page, parse_limit, parse_sort
from pileus.kernel.web.call import Query

METADATA = sa.MetaData(naming_convention=NAMING)
ROWS = sa.Table(
    "rows_",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(20)),
    sa.Column("size", sa.Integer),
    sa.Column("weight", sa.Integer, nullable=False),
)
CONTENT = [
    {"id": f"{n:02}", "name": name, "size": size, "weight": n % 2}
    for n, (name, size) in enumerate(itertools.product([None, "a", "b", "", "B"], [None, 1, 1, 2]))
]


@pytest.fixture
def db(database_url):
    db = Database(database_url, "test")
    METADATA.create_all(db.engine)
    with db.write() as conn:
        conn.execute(sa.insert(ROWS), CONTENT)
    yield db
    db.close()


def walk(conn, sort, limit):
    found, marker = [], None
    while True:
        part = conn.execute(page(sa.select(ROWS), ROWS, sort=sort, marker=marker, limit=limit)).mappings().all()
        found += part
        assert len(found) <= len(CONTENT)
        if len(part) < limit:
            return found
        marker = part[-1]


def rank(value, direction, text_rank):
    """NULL is below everything; text in the database's own order."""
    place = (0,) if value is None else (1, text_rank[value] if isinstance(value, str) else value)
    return tuple(-number for number in place) if direction == "desc" else place


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_walking_gives_every_row_once_in_the_order_of_the_keys(db, limit):
    with db.read() as conn:
        texts = sa.select(ROWS.c.name).where(ROWS.c.name.is_not(None)).group_by(ROWS.c.name).order_by(ROWS.c.name)
        text_rank = {name: n for n, name in enumerate(conn.execute(texts).scalars())}
        for directions in itertools.product(("asc", "desc"), repeat=3):
            sort = list(zip(("name", "size", "id"), directions, strict=True))
            found = walk(conn, sort, limit)
            assert sorted(row["id"] for row in found) == [row["id"] for row in CONTENT]
            ids = {row["id"]: n for n, row in enumerate(CONTENT)}
            wanted = sorted(
                found,
                key=lambda row: (
                    rank(row["name"], directions[0], text_rank),
                    rank(row["size"], directions[1], text_rank),
                    ids[row["id"]] * (1 if directions[2] == "asc" else -1),
                ),
            )
            # tuples of different length compare: (0,) before (1, x); negated (0,) after (-1, -x)
            assert [row["id"] for row in found] == [row["id"] for row in wanted], sort


def test_keys_that_cannot_be_null_work_too(db):
    with db.read() as conn:
        found = walk(conn, [("weight", "desc"), ("id", "asc")], 4)
    assert [row["weight"] for row in found] == [1] * 10 + [0] * 10


def test_a_page_has_a_filter_of_its_own(db):
    with db.read() as conn:
        query = sa.select(ROWS).where(ROWS.c.size == 1)
        first = conn.execute(page(query, ROWS, sort=[("id", "asc")], limit=4)).mappings().all()
        rest = conn.execute(page(query, ROWS, sort=[("id", "asc")], marker=first[-1])).mappings().all()
    assert len(first) + len(rest) == 10


class Asked:
    def __init__(self, text):
        self.query = Query([("limit", text)] if text is not None else [])


def test_a_limit_is_whole_not_negative_and_cut():
    assert [parse_limit(Asked(text), 10, 7) for text in (None, "0", "3", "99")] == [7, 0, 3, 10]
    for wrong in ("-1", "x", "1.5", ""):
        with pytest.raises(Invalid):
            parse_limit(Asked(wrong), 10)


def test_sort_keys_are_checked_and_made_unique():
    default = [("created_at", "desc"), ("id", "desc")]
    allowed = {"name": "name", "created": "created_at"}
    assert parse_sort([], [], allowed, default) == default
    assert parse_sort(["name"], ["asc"], allowed, default) == [("name", "asc"), ("id", "asc")]
    assert parse_sort(["name", "created"], ["asc"], allowed, default) == [("name", "asc"), ("created_at", "asc"), ("id", "asc")]
    for keys, directions in ((["colour"], []), (["name"], ["up"])):
        with pytest.raises(Invalid):
            parse_sort(keys, directions, allowed, default)
