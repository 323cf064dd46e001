"""A request body between the event loop and the thread that reads it."""

import asyncio
import hashlib

import pytest

from pileus.kernel.errors import UploadBroken
from pileus.server.uploads import _AHEAD, FLOW, UPLOAD, Upload


class Connection:
    """A listener's part: what comes first is a message, the rest goes where the scope says."""

    def __init__(self):
        self.paused = False
        self.scope = {FLOW: self}
        self.messages = asyncio.Queue()

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    async def receive(self):
        return await self.messages.get()

    def message(self, body=b"", *, more=True):
        self.messages.put_nowait({"type": "http.request", "body": body, "more_body": more})


async def _until(condition):
    while not condition():
        await asyncio.sleep(0)


def test_all_parts_arrive_in_order_whatever_their_size():
    async def story():
        connection = Connection()
        upload = Upload(connection.scope, connection.receive, 30)
        pump = asyncio.ensure_future(upload.pump())
        sent = [bytes([number % 251]) * (1 + number * 7919 % 200_000) for number in range(40)] + [b"z"] * 1000
        reading = asyncio.ensure_future(asyncio.to_thread(upload.read))
        connection.message(sent[0])
        await _until(lambda: UPLOAD in connection.scope)
        for part in sent[1:]:
            await _until(lambda: not connection.paused)
            connection.scope[UPLOAD].put(part)
        connection.message(more=False)
        whole = await reading
        assert hashlib.sha256(whole).digest() == hashlib.sha256(b"".join(sent)).digest()
        await pump

    asyncio.run(story())


def test_a_sender_that_is_far_ahead_waits_and_crumbs_take_little_room():
    async def story():
        connection = Connection()
        upload = Upload(connection.scope, connection.receive, 30)
        pump = asyncio.ensure_future(upload.pump())
        connection.message(b"first")
        await _until(lambda: UPLOAD in connection.scope)
        for _ in range(1000):
            upload.put(b"x")
        assert len(upload._parts) == 1
        upload.put(b"y" * _AHEAD)
        assert connection.paused
        while len(await asyncio.to_thread(upload.read, _AHEAD)) < _AHEAD:
            pass
        await _until(lambda: not connection.paused)
        connection.messages.put_nowait({"type": "http.disconnect"})
        await pump
        with pytest.raises(UploadBroken):
            upload.read(1)

    asyncio.run(story())


def test_what_comes_after_an_early_answer_is_the_servers_again():
    async def story():
        connection = Connection()
        upload = Upload(connection.scope, connection.receive, 30)
        pump = asyncio.ensure_future(upload.pump())
        connection.message(b"first")
        await _until(lambda: UPLOAD in connection.scope)
        upload.leave()
        connection.message(b"second")
        await _until(connection.messages.empty)
        assert UPLOAD not in connection.scope
        pump.cancel()

    asyncio.run(story())
