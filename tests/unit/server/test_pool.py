"""Threads of an event loop."""

import asyncio
import threading

import pytest

from pileus.server.pool import Pool


@pytest.fixture
def pool():
    pool = Pool(2, "test")
    yield pool
    pool.close()


def test_what_a_call_returns_or_raises_comes_out_of_its_future(pool):
    async def story():
        assert await pool.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0)

    asyncio.run(story())


def test_as_many_calls_run_at_once_as_there_are_threads(pool):
    entered, leave = threading.Semaphore(0), threading.Event()
    running = []

    def hold():
        running.append(threading.current_thread().name)
        entered.release()
        assert leave.wait(30)

    async def story():
        calls = [pool.run(hold) for _ in range(5)]
        await asyncio.to_thread(lambda: [entered.acquire(timeout=30) for _ in range(2)])
        assert sorted(running) == ["test_0", "test_1"]
        leave.set()
        await asyncio.gather(*calls)
        assert len(running) == 5

    asyncio.run(story())


def test_a_call_that_nobody_waits_for_any_more_harms_no_other(pool):
    entered, leave = threading.Event(), threading.Event()

    async def story():
        abandoned = pool.run(lambda: (entered.set(), leave.wait(30)))
        await asyncio.to_thread(entered.wait, 30)
        abandoned.cancel()
        leave.set()
        assert [await pool.run(int, text) for text in "123"] == [1, 2, 3]

    asyncio.run(story())


@pytest.mark.parametrize("drop", [False, True])
def test_closing_lets_calls_under_way_end_and_drops_those_that_wait_if_told(drop, monkeypatch):
    pool = Pool(1, "test")
    entered, leave, done = threading.Event(), threading.Event(), []

    async def story():
        first = pool.run(lambda: (entered.set(), leave.wait(30), done.append("first")))
        pool.run(done.append, "second")
        await asyncio.to_thread(entered.wait, 30)
        thread = pool._threads[0]
        join = thread.join
        monkeypatch.setattr(thread, "join", lambda: (leave.set(), join()))
        await asyncio.to_thread(pool.close, drop=drop)
        await first

    asyncio.run(story())
    assert done == (["first"] if drop else ["first", "second"])
