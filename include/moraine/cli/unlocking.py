"""Opens a repository's keys in a thread of its own.

Stretching a passphrase takes as long as loading the rest of the program, and holds no interpreter lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from moraine.repository.unlock import Unlocked, unlock
from moraine.stores.base import Store


class Unlocking:
    """The keys of a repository, on their way; `aside` in a thread, else in this one (which may ask on the terminal)."""

    def __init__(self, store: Store, passphrase: Callable[[], bytes], *, aside: bool) -> None:
        self.store = store
        self._passphrase = passphrase
        self._found: Unlocked | None = None
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="unlock", daemon=True)
        (self._thread.start if aside else self._work)()

    def result(self) -> Unlocked:
        """Wait for the keys. Raises what `unlock` raised."""
        if self._thread.ident:
            self._thread.join()
        if self._failed:
            raise self._failed
        assert self._found
        return self._found

    def _work(self) -> None:
        try:
            self._found = unlock(self.store, self._passphrase)
        except BaseException as error:  # handed to the caller's thread
            self._failed = error
