"""The way in: configuration and key slots of a repository, and the keys behind them.

Loads little, so that a command line can stretch its passphrase while the rest of the program is still being loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from moraine.errors import DamagedObject, MissingObject, NotARepository, ObjectNotFound, UnsupportedFormat
from moraine.model.record import dataclass
from moraine.repository import layout
from moraine.repository.documents import read_open
from moraine.repository.key_slots import Stretch, open_slots
from moraine.repository.log_objects import LogObjects, fetch_log
from moraine.stores.ahead import begin
from moraine.stores.base import Store

if TYPE_CHECKING:
    from moraine.repository.keys import Keyring

FORMAT = 1

Passphrase = Callable[[], bytes]  # or the text of a generated key: accepted wherever a passphrase is


@dataclass(frozen=True, slots=True)
class Chunking:
    """Sizes in bytes, fixed when the repository is made."""

    small: int = 1 << 20  # files up to this are one chunk, bundled
    bundle: int = 2 << 20  # plain size of a frame of small files
    minimum: int = 1 << 18  # content-defined
    average: int = 1 << 20
    maximum: int = 1 << 22
    fixed_disk: int = 4 << 20
    fixed_lake: int = 8 << 20
    pack: int = 32 << 20


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """The content of `moraine.json`."""

    id: str
    encrypted: bool
    created_at: str
    chunking: Chunking = field(default_factory=Chunking)
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Unlocked:
    """A repository's configuration, authenticated, and its keys."""

    config: RepositoryConfig
    keyring: Keyring
    load_log: Callable[[], LogObjects]  # of a store that is far away, already on its way


def unlock(store: Store, passphrase: Passphrase, stretch: Stretch | None = None) -> Unlocked:
    """Read the configuration and open a key slot; `passphrase` is asked only where there are slots.

    Stretching one takes longer than a few requests: those to a store that is far away are made meanwhile.

    Raises:
        NotARepository, UnsupportedFormat, WrongPassphrase, ConfigError, DamagedObject, ForgedObject
    """
    load_slots = begin(store, lambda: read_slots(store))
    load_log = begin(store, lambda: fetch_log(store))
    data = _read_config(store)
    config = _parse_config(data)
    keyring = _open_slot(load_slots, config, passphrase, stretch)
    read_open(data, key=layout.CONFIG, keyring=keyring)
    return Unlocked(config, keyring, load_log)


def _read_config(store: Store) -> bytes:
    try:
        return store.get(layout.CONFIG)
    except ObjectNotFound as error:
        raise NotARepository(
            f"{store.url} is no Moraine repository", hint=f"`moraine repo init {store.url}` makes one"
        ) from error


def _parse_config(data: bytes) -> RepositoryConfig:
    content = read_open(data, key=layout.CONFIG, keyring=None)
    if content.get("format", 0) > FORMAT:
        raise UnsupportedFormat(
            f"the repository has format {content['format']}, this version reads up to {FORMAT}", hint="upgrade Moraine"
        )
    try:
        config = RepositoryConfig(**content)
        return replace(config, chunking=Chunking(**content["chunking"]))
    except TypeError as error:
        raise DamagedObject(f"{layout.CONFIG} lacks or has too many fields: {error}", object=layout.CONFIG) from error


def read_slots(store: Store) -> list[dict[str, Any]]:
    """The key slots, oldest first; JSON forms. Raises DamagedObject."""
    return [read_open(store.get(info.key), key=info.key, keyring=None) for info in store.list(layout.SLOTS)]


def _open_slot(
    load_slots: Callable[[], list[dict[str, Any]]],
    config: RepositoryConfig,
    passphrase: Passphrase,
    stretch: Stretch | None,
) -> Keyring:
    if not config.encrypted:
        from moraine.repository.keys import Keyring

        return Keyring.plain(config.id)
    slots = load_slots()
    if not slots:
        raise MissingObject(
            "the repository has no key slot", hint="restore keys/ from a copy of the store", object=layout.SLOTS
        )
    return open_slots(slots, passphrase(), config.id, stretch)
