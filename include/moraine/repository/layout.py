"""Object keys. Nothing else in the project spells one out."""

from __future__ import annotations

from moraine.errors import DamagedObject

CONFIG = "moraine.json"
SLOTS = "keys/"
LOG = "log/"
CHECKPOINTS = "log/checkpoints/"
SESSIONS = "sessions/"
PACKS = "packs/"
INDEX = "index/"
MANIFESTS = "manifests/"
SNAPSHOTS = "snapshots/"
REPORTS = "reports/"
FORGOTTEN = "reports/forgotten/"
MIRROR = "mirror/"


def slot(slot_id: str) -> str:
    """A key slot."""
    return f"{SLOTS}{slot_id}.json"


def log_entry(number: int) -> str:
    """A log entry."""
    return f"{LOG}{number:020d}.json"


def checkpoint(number: int) -> str:
    """The state as of log entry `number`."""
    return f"{CHECKPOINTS}{number:020d}.json"


def forgotten(number: int) -> str:
    """The snapshots forgotten up to log entry `number`."""
    return f"{FORGOTTEN}{number:020d}.json"


def log_number(key: str) -> int:
    """The number in the key of a log entry, or of what was noted as of one. Raises DamagedObject."""
    digits = key.rpartition("/")[2].removesuffix(".json")
    if len(digits) != 20 or not digits.isdigit():
        raise DamagedObject(
            f"{key} does not belong in the log", hint="move it away; its name is no entry's", object=key
        )
    return int(digits)


def session_file(session: str, name: str) -> str:
    """A working file of a session."""
    return f"{SESSIONS}{session}/{name}"


def session_packs(session: str) -> str:
    """The prefix of a session's packs."""
    return f"{PACKS}{session}/"


def pack(session: str, ulid: str) -> str:
    """A pack."""
    return f"{PACKS}{session}/{ulid}"


def segment(ulid: str) -> str:
    """An index segment."""
    return f"{INDEX}{ulid}.parquet"


def shard(ulid: str) -> str:
    """A base shard of a manifest."""
    return f"{MANIFESTS}{ulid}.parquet"


def delta(ulid: str) -> str:
    """Changed rows that overlay base shards."""
    return f"{MANIFESTS}{ulid}.delta.parquet"


def snapshot(snapshot_id: str) -> str:
    """A snapshot object."""
    return f"{SNAPSHOTS}{snapshot_id}.json"


def report(name: str) -> str:
    """A report."""
    return f"{REPORTS}{name}"


def mirror_file(session: str, name: str) -> str:
    """What a session has seen of a mirror, or is about to change in it."""
    return f"{MIRROR}{session}/{name}"
