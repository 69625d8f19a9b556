"""Asking a store that is far away before the answer is needed, so that requests wait side by side.

How many requests a store likes at once, it says itself. Of one that is near nothing is asked ahead: there a request
costs less than a thread, and calls keep the order in which they are written down.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

from moraine.stores.base import Store

T = TypeVar("T")

NEAR = 2  # requests at once: while one waits for a disk, another is worked on


def at_once(store: Store) -> int:
    """How many requests the store likes side by side; one that says nothing is near."""
    return int(getattr(store, "at_once", NEAR))


def is_near(store: Store) -> bool:
    """Whether nothing is gained by asking ahead."""
    return at_once(store) <= NEAR


def begin(store: Store, call: Callable[[], T]) -> Callable[[], T]:
    """Start `call`, if the store is far away, and return what waits for its result, or else makes the call.

    The process does not end before the call has: an interpreter at its end cannot stop the SDK in the middle of one.
    """
    if is_near(store):
        return call
    from concurrent.futures import Future

    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # handed to whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=work, name="ahead", daemon=False).start()
    return future.result


def gather(store: Store, calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """What the calls return, in order; as many as the store likes are under way at once, and a few finished."""
    width = at_once(store)
    if width <= NEAR:
        yield from (call() for call in calls)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(width, thread_name_prefix="ahead") as pool:
        left = iter(calls)
        waiting = deque(pool.submit(call) for call in itertools.islice(left, 4 * width))
        try:
            while waiting:
                found = waiting.popleft().result()
                waiting.extend(pool.submit(call) for call in itertools.islice(left, 1))
                yield found
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def remove_all(store: Store, keys: Iterable[str]) -> None:
    """Delete objects, side by side where the store is far away. Raises what `delete` raises; some may be gone then."""
    for _ in gather(store, (partial(store.delete, key) for key in keys)):
        pass
