"""Connections over which nothing comes, or too much at once: neither keeps readers out."""

import asyncio

import pytest
from asgi import HOST, ask
from starlette.responses import Response
from uvicorn.config import Config
from uvicorn.server import ServerState

from kndb.explorer.application import WAITING
from kndb.explorer.connections import HEARD_WITHIN, Connection


class Wire(asyncio.Transport):
    """The server's end of a connection."""

    def __init__(self):
        super().__init__()
        self.sent, self.closed = b"", False

    def get_extra_info(self, name, default=None):
        return default

    def write(self, data):
        self.sent += data

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed


async def answers(scope, receive, send):
    await Response("here")(scope, receive, send)


async def waits(scope, receive, send):
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("application", "sent", "closed"),
    [
        (answers, [b"", b""], [True]),
        (answers, [b"GET / HTTP/1.1\r\nHo", b"st: x\r\n"], [True]),
        (answers, [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HT", b"TP"], [False, True]),
        (answers, [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"] * 4, [False] * 4),
        (waits, [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"", b"", b""], [False] * 4),
    ],
)
def test_a_connection_is_closed_if_no_whole_request_comes(application, sent, closed):
    async def run():
        later, wire = [], Wire()
        config = Config(application, lifespan="off", log_level="critical")
        config.load()
        loop = asyncio.get_running_loop()
        one = Connection(config, ServerState(), {}, _loop=loop)
        real = loop.call_later

        def call_later(delay, call, *given):
            if getattr(call, "__name__", "") != "_look":
                return real(delay, call, *given)
            return later.append((delay, call, given))

        loop.call_later = call_later
        one.connection_made(wire)
        found = []
        for data in sent:
            if data:
                one.data_received(data)
            for _ in range(5):
                await asyncio.sleep(0)
            ((delay, call, given),) = later
            later.clear()
            assert delay == HEARD_WITHIN
            call(*given)
            found.append(wire.closed)
            if wire.closed:
                break
        for task in one.tasks:
            task.cancel()
        one.connection_lost(None)
        loop.call_later = real
        return found

    assert asyncio.run(run()) == closed


def test_more_requests_than_can_be_in_work_are_told_to_come_again(explorer):
    explorer._in_work = WAITING
    try:
        found = ask(explorer, "/facts/1")
    finally:
        explorer._in_work = 0
    assert (found.status, found.header("retry-after")) == (503, "5")
    assert found.header("x-frame-options") == "DENY"
    assert ask(explorer, "/facts/1", headers={"host": HOST}).status == 200
    assert explorer._in_work == 0
