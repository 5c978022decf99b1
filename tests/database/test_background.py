"""Writing beside computing: order, errors, what is done when the block is left."""

import threading
from types import SimpleNamespace

import pytest

from kndb.database.background import BackgroundWriter

WAIT = 30
"""Seconds after which a test gives up on another thread."""


class BrokenError(Exception):
    pass


def breaking_at(number, written):
    """A function that writes items into a list, and fails at one of them."""

    def write(item):
        if item == number:
            raise BrokenError(item)
        written.append(item)

    return write


def test_all_is_written_in_order_when_the_block_is_left():
    written = []
    with BackgroundWriter(written.append) as writer:
        for number in range(200):
            writer.submit(number)
    assert written == list(range(200))


def test_nothing_to_write():
    written = []
    with BackgroundWriter(written.append) as writer:
        writer.wait()
    assert (written, writer.waited) == ([], 0.0)


def test_writing_goes_on_beside_the_caller_in_one_other_thread():
    threads, written, gate = set(), [], threading.Event()

    def write(item):
        threads.add(threading.get_ident())
        assert gate.wait(WAIT)
        written.append(item)

    with BackgroundWriter(write) as writer:
        writer.submit(1)
        assert written == []  # submit came back while its item is still being written
        gate.set()
        writer.submit(2)
        assert written[0] == 1  # and waits for the item before
    assert written == [1, 2]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_the_thread_ends_with_the_block():
    before = threading.active_count()
    with BackgroundWriter(list) as writer:
        writer.submit([1])
        writer.wait()
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_an_error_is_raised_at_the_next_submit_and_only_once():
    written = []
    with BackgroundWriter(breaking_at(2, written)) as writer:
        writer.submit(1)
        writer.submit(2)
        with pytest.raises(BrokenError, match="2"):
            writer.submit(3)
        # Item 3 was not taken; who goes on all the same may.
        writer.submit(4)
    assert written == [1, 4]


def test_an_error_ends_the_block_that_does_not_expect_it():
    written, made = [], []

    def everything():
        with BackgroundWriter(breaking_at(2, written)) as writer:
            for number in range(10):
                made.append(number)
                writer.submit(number)

    with pytest.raises(BrokenError, match="2"):
        everything()
    assert written == [0, 1]
    assert made == [0, 1, 2, 3]


def test_an_error_of_the_last_item_is_raised_at_the_end():
    written = []

    def everything():
        with BackgroundWriter(breaking_at(9, written)) as writer:
            for number in range(10):
                writer.submit(number)

    with pytest.raises(BrokenError, match="9"):
        everything()
    assert written == list(range(9))


@pytest.mark.parametrize("failing", [0, None])
def test_the_blocks_own_error_wins(failing):
    written = []

    def everything():
        with BackgroundWriter(breaking_at(failing, written)) as writer:
            writer.submit(0)
            raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        everything()
    assert written == ([0] if failing is None else [])


def test_what_was_handed_over_is_written_although_the_block_fails():
    written, gate = [], threading.Event()

    def write(item):
        assert gate.wait(WAIT)
        written.append(item)

    def everything():
        with BackgroundWriter(write) as writer:
            writer.submit(0)
            gate.set()
            raise KeyError("own")

    with pytest.raises(KeyError):
        everything()
    assert written == [0]


def test_waited_counts_the_time_spent_waiting(monkeypatch):
    """The clock moves only while an item is being written, and the caller waits for it."""
    now = [0.0]
    monkeypatch.setattr("kndb.database.background.time", SimpleNamespace(monotonic=lambda: now[0]))
    waiting = threading.Event()

    def write(seconds):
        assert waiting.wait(WAIT)
        now[0] += seconds
        if seconds > 4:
            raise BrokenError

    writer = BackgroundWriter(write)
    wait = writer.wait

    def told():
        # The start is read before the result is asked for, which is all that this waits for.
        last = writer._last
        if last is not None:
            result = last.result
            monkeypatch.setattr(last, "result", lambda: (waiting.set(), result())[1])
        wait()
        waiting.clear()

    monkeypatch.setattr(writer, "wait", told)
    with writer:
        writer.submit(2.0)
        assert writer.waited == 0.0
        writer.submit(3.0)
        assert writer.waited == 2.0
        writer.submit(5.0)
        assert writer.waited == 5.0
        with pytest.raises(BrokenError):
            writer.wait()
        assert writer.waited == 10.0
    assert writer.waited == 10.0
