"""Who may wait for whom."""

import threading

import pytest

from pileus.kernel import waiting
from pileus.kernel.db import Database, forbid_in_transaction, in_transaction
from pileus.kernel.errors import ProgrammingError
from pileus.kernel.waiting import forbid_while_serving, serving


@pytest.fixture
def db(tmp_path):
    db = Database(f"sqlite:///{tmp_path}/a.db", "compute")
    yield db
    db.close()


@pytest.mark.parametrize("kind", ["read", "write"])
def test_nobody_is_waited_for_inside_a_transaction_and_the_error_names_both(db, kind):
    forbid_in_transaction("a call")
    with getattr(db, kind)():
        assert in_transaction()
        with pytest.raises(ProgrammingError, match="a bus call x inside an open transaction of compute"):
            forbid_in_transaction("a bus call x")
    forbid_in_transaction("a call")


def test_a_failed_transaction_leaves_no_mark(db):
    with pytest.raises(ZeroDivisionError), db.write():
        1 / 0
    with pytest.raises(ProgrammingError), db.read(), db.write():
        pass
    assert not in_transaction()


def test_a_transaction_of_one_thread_does_not_bind_another(db):
    seen = []
    with db.write():
        thread = threading.Thread(target=lambda: seen.append(in_transaction()))
        thread.start()
        thread.join()
    assert seen == [False]


def test_serving_forbids_waiting_and_ends(db):
    with serving("compute.create"):
        with serving("inner"):
            with pytest.raises(ProgrammingError, match="while serving inner"):
                forbid_while_serving("a call")
        with pytest.raises(ProgrammingError, match="while serving compute.create"):
            forbid_while_serving("a call")
    forbid_while_serving("a call")


def test_a_database_that_cannot_be_opened_leaves_no_mark(tmp_path):
    broken = Database(f"sqlite:///{tmp_path}", "broken")
    for _ in range(2):
        with pytest.raises(Exception), broken.write():  # noqa: B017
            pass
    assert not waiting.in_transaction()
