"""init: make a repository where the store proves fit to hold one."""

from __future__ import annotations

from collections.abc import Callable

from moraine.errors import AlreadyARepository, ObjectNotFound
from moraine.repository import layout
from moraine.repository.keys import Entropy
from moraine.repository.repository import Repository
from moraine.steps.run import Clock
from moraine.stores.base import Store
from moraine.stores.probe import probe_store


def init_repository(
    store: Store, passphrase: Callable[[], bytes] | None, *, clock: Clock, entropy: Entropy, label: str = "first"
) -> Repository:
    """Make a repository; without a passphrase a plain one. The passphrase is asked for once nothing is in the way.

    Raises:
        AlreadyARepository: there is one; it is left as it is.
        StoreUnfit: the store breaks a rule that repositories rely on.
    """
    try:
        store.head(layout.CONFIG)
    except ObjectNotFound:
        pass
    else:
        raise AlreadyARepository(
            f"{store.url} is a repository already", hint="use it as it is, or choose another address"
        )
    secret = passphrase() if passphrase else None
    found = probe_store(store, entropy, clock)
    return Repository.create(
        store, passphrase=secret, now=clock(), entropy=entropy, capabilities=found.to_dict(), label=label
    )
