"""What is already at the keys that a mirror is about to write: asked for directory by directory, before their turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from moraine.sources.s3_client import S3Bucket

_THREADS = 8
_AHEAD, _HELD = 64, 50_000  # directories, and their objects, that are known before their turn

Sizes = dict[str, int]  # by key


class Known:
    """Sizes of objects. For one thread, and keys in the order of a manifest: each directory together."""

    def __init__(self, bucket: S3Bucket) -> None:
        """Ask nothing yet."""
        self._bucket = bucket
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="mirror-list")
        self._coming: deque[str] = deque()  # prefixes
        self._ahead: deque[tuple[str, Future[Sizes | None]]] = deque()
        self._held = 0  # objects in there
        self._lock = Lock()
        self._below: str | None = None
        self._at: str | None = None
        self._sizes: Sizes = {}  # of all that is directly under `_at`, or anywhere under `_below`

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def expect(self, keys: Sequence[str]) -> None:
        """The first key of every directory that comes next, in this order."""
        prefixes = list(dict.fromkeys(map(_directory, keys)))
        self._at = self._below = None
        while self._ahead:
            self._ahead.popleft()[1].add_done_callback(self._let_go)
        self._coming = deque(prefixes)
        if len(prefixes) > 1:
            self._look_below(_common(prefixes))
        self._look_ahead()

    def size(self, key: str) -> int | None:
        """The size of the object at a key; None where there is none."""
        directory = _directory(key)
        if directory != self._at and (self._below is None or not directory.startswith(self._below)):
            self._sizes, self._at, self._below = self._awaited(directory), directory, None
        return self._sizes.get(key)

    def _look_below(self, prefix: str) -> None:
        """Ask for all that is below a prefix; if that is little, as in a new mirror, nothing else has to be asked."""
        page = self._bucket.page(prefix)
        if page.token is None:
            self._coming.clear()
            self._below, self._sizes = prefix, {item.key: item.size for item in page.objects}

    def _awaited(self, directory: str) -> Sizes:
        if all(prefix != directory for prefix, _ in self._ahead):
            return self._list(directory)
        while True:  # nobody will ask for those before it
            prefix, future = self._ahead.popleft()
            self._look_ahead()
            if prefix == directory:
                break
            future.add_done_callback(self._let_go)
        found = future.result()
        self._let_go(future)
        return self._list(directory) if found is None else found

    def _look_ahead(self) -> None:
        while self._coming and len(self._ahead) < _AHEAD:
            prefix = self._coming.popleft()
            self._ahead.append((prefix, self._pool.submit(self._list_ahead, prefix)))

    def _list_ahead(self, directory: str) -> Sizes | None:
        """Nothing where much is held already: then it is asked for in its turn."""
        if self._held >= _HELD:
            return None
        found = self._list(directory)
        with self._lock:
            self._held += len(found)
        return found

    def _let_go(self, future: Future[Sizes | None]) -> None:
        if not future.cancelled() and not future.exception():
            with self._lock:
                self._held -= len(future.result() or ())

    def _list(self, directory: str) -> Sizes:
        found: Sizes = {}
        token: str | None = None
        while True:
            page = self._bucket.page(directory, delimiter="/", token=token)
            found |= {item.key: item.size for item in page.objects}
            token = page.token
            if token is None:
                return found


def _directory(key: str) -> str:
    return key[: key.rfind("/") + 1]


def _common(prefixes: Sequence[str]) -> str:
    """What all of them begin with."""
    low, high = min(prefixes), max(prefixes)
    same = next((at for at, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low))
    return low[:same]
