"""Keys that are opened while the program loads: the same keys and the same errors as without, and nothing left."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from forked import in_child
from moraine.cli import unlocking as unlocking_module
from moraine.cli.unlocking import Unlocking
from moraine.errors import MoraineError, NotARepository, WrongPassphrase
from moraine.repository import key_slots
from moraine.repository.key_slots import generate_key
from moraine.repository.repository import Repository
from moraine.steps.init import init_repository
from moraine.stores.base import Store
from moraine.stores.local import LocalStore
from moraine.stores.memory import MemoryStore

SECRET, OTHER = b"open sesame", b"another way in"
Opened = tuple[bytes, int]  # the id key, and how often this process stretched


class Far(MemoryStore):
    """Likes many requests at once."""

    at_once = 8


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(key_slots.SCRYPT, "n", 1 << 4)


def make(store: Store, secret: bytes = SECRET) -> Repository:
    return init_repository(store, lambda: secret, clock=lambda: datetime.now(UTC), entropy=os.urandom)


def opened(store: Store, secret: Callable[[], bytes], then: Callable[[Unlocking], object] = id) -> Opened:
    """Open in a process without other threads, with `then` in between; nothing may be left of it."""

    def act() -> Opened:
        calls: list[Any] = []
        stretch = hashlib.scrypt

        def counted(*args: Any, **kwargs: Any) -> bytes:
            calls.append(args)
            return stretch(*args, **kwargs)

        hashlib.scrypt = counted  # type: ignore[assignment]
        unlocking = Unlocking(store, secret, aside=True, file=True)
        then(unlocking)
        key = unlocking.result().keyring.id_key
        assert unlocking.result().keyring.id_key == key
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return key, len(calls)

    found = in_child(act)
    if isinstance(found, MoraineError):
        raise found
    assert isinstance(found, tuple), found
    return found


def test_a_process_stretches_what_is_near(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "repo")
    key = make(store).keyring.id_key
    assert opened(store, lambda: SECRET) == (key, 0)


def test_where_no_process_can_be_the_same_is_done_here(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "repo")
    key, halt = make(store).keyring.id_key, threading.Event()

    def threaded() -> bytes:
        if threading.active_count() == 1:
            threading.Thread(target=halt.wait, daemon=True).start()
        return SECRET

    assert opened(store, threaded) == (key, 1)


@pytest.mark.parametrize("told", [b"", b"\xe7", b"[\x02", b"N", b"(\x02\x00\x00\x00NN"])
def test_a_process_that_dies_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bytes) -> None:
    """Whatever it has told until then."""
    store = LocalStore(tmp_path / "repo")
    key = make(store).keyring.id_key
    monkeypatch.setattr(unlocking_module, "_tell", lambda store, secret, out: out.write(told))
    assert opened(store, lambda: SECRET) == (key, 1)


def test_a_process_that_nobody_asks_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "repo")
    make(store)
    monkeypatch.setattr(unlocking_module, "_tell", lambda store, secret, out: time.sleep(60))

    def act() -> bool:
        unlocking = Unlocking(store, lambda: SECRET, aside=True, file=True)
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)
        unlocking.close()
        unlocking.close()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return True

    assert in_child(act) is True


def test_far_away_a_thread_does_it() -> None:
    store = Far()
    key = make(store).keyring.id_key
    assert opened(store, lambda: SECRET, lambda unlocking: unlocking._thread.join()) == (key, 1)


def test_of_several_slots_the_right_one(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "repo")
    repository = make(store)
    repository.add_slot(OTHER, label="second", now=datetime.now(UTC))
    for secret in (SECRET, OTHER):
        assert opened(store, lambda secret=secret: secret) == (repository.keyring.id_key, 0)  # type: ignore[misc]


def test_a_generated_key_needs_no_process(tmp_path: Path) -> None:
    store, text = LocalStore(tmp_path / "repo"), generate_key(os.urandom).encode()
    key = make(store, text).keyring.id_key

    def none(unlocking: Unlocking) -> None:
        assert unlocking._teller is None

    assert opened(store, lambda: text, none) == (key, 0)


def test_a_passphrase_is_read_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "repo")
    key, secrets = make(store).keyring.id_key, [SECRET]
    assert opened(store, secrets.pop) == (key, 0)


def test_errors_are_those_of_opening(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "repo")
    with pytest.raises(NotARepository):
        opened(store, lambda: SECRET)
    make(store)
    with pytest.raises(WrongPassphrase):
        opened(store, lambda: OTHER)
