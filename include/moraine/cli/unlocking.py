"""Opens a repository's keys while the rest of the program is being loaded.

Stretching a passphrase takes as long as that. Of a repository that is near, a process of its own does it: in one the
pages that it touches and the libraries that are being mapped wait for each other. Of one that is far away a thread does
all, as requests take time too.
"""

from __future__ import annotations

import marshal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import IO, Any

from moraine.errors import MoraineError
from moraine.repository.key_slots import read_generated_key, slot_key, slot_keys
from moraine.repository.unlock import Unlocked, read_slots, unlock
from moraine.sources.forked import Teller, fork_teller
from moraine.stores.ahead import is_near
from moraine.stores.base import Store


class Unlocking:
    """The keys of a repository, on their way.

    Args:
        aside: begin now, and ask nobody; else the keys are opened at once, and `passphrase` may ask on the terminal.
        file: the passphrase is in a file, and not in a pipe, which is opened only when nothing else is in the way.
    """

    def __init__(self, store: Store, passphrase: Callable[[], bytes], *, aside: bool, file: bool) -> None:
        self.store = store
        self._passphrase = passphrase
        self._teller: Teller | None = None
        self._found: Unlocked | None = None
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="unlock", daemon=True)
        if not aside:
            self._work()
        elif is_near(store) and file:
            self._begin()
        else:
            self._thread.start()

    def result(self) -> Unlocked:
        """Wait for the keys. Raises what `unlock` raised."""
        if self._thread.ident:
            self._thread.join()
        elif not self._found and not self._failed:
            self._work()
        if self._failed:
            raise self._failed
        assert self._found
        return self._found

    def _begin(self) -> None:
        with suppress(MoraineError):  # which comes up again when the result is asked for
            secret = self._passphrase()
            self._passphrase = lambda: secret  # what the process was given
            if read_generated_key(secret) is None:
                self._teller = fork_teller(partial(_tell, self.store, secret))

    def _work(self) -> None:
        try:
            self._found = unlock(self.store, self._passphrase, self._stretched)
        except BaseException as error:  # handed to the caller's thread
            self._failed = error
        finally:
            self.close()

    def close(self) -> None:
        """End the process, whether or not its result was asked for."""
        if self._teller:
            self._teller.close()
            self._teller = None

    def _stretched(self, kdf: dict[str, Any], material: bytes) -> bytes:
        """What the process tells of a slot; where it tells nothing, the same is done here."""
        with suppress(EOFError, ValueError, TypeError):  # it has ended, or was
            while self._teller:
                told, key = marshal.load(self._teller.pipe)
                if told == kdf:
                    return bytes(key)
        return slot_key(kdf, material)


def _tell(store: Store, secret: bytes, out: IO[bytes]) -> None:
    for told in slot_keys(read_slots(store), secret):
        marshal.dump(told, out)
        out.flush()
