"""The one error tree.

MoraineError(message, hint=…, **context)
├── ConfigError            10   policy, parameters, flags
│   └── UnsafeRetention    10   a retention rule that would forget everything
├── SourceError            20   what is backed up
│   ├── SourceMissing      20
│   ├── SourceUnmounted    20
│   ├── SourceDenied       20
│   ├── SourceVanished     20
│   └── GateRefused        21   the change set looks like an accident
├── StoreError             30   the object service
│   ├── ObjectNotFound     30
│   ├── ObjectExists       30
│   ├── AccessDenied       31
│   ├── StoreFull          32
│   ├── StoreUnavailable   33   (transient)
│   ├── StoreUnfit         34   the capability probe said no
│   └── ReadOnlyStore      35
├── RepositoryError        40   what is stored there
│   ├── NotARepository     40
│   ├── AlreadyARepository 40
│   ├── UnsupportedFormat  41
│   ├── WrongPassphrase    42
│   ├── KeyUnavailable     42
│   ├── SnapshotNotFound   43
│   ├── SessionClosed      44
│   ├── SessionGone        44
│   ├── Fenced             45   a newer attempt has taken over
│   ├── CommitRefused      46
│   └── ClockSkew          47
├── IntegrityError         50   bytes are not what they were
│   ├── DamagedObject      50
│   ├── MissingObject      50
│   └── ForgedObject       51
├── RestoreError           60
│   ├── UnsafePath         61
│   └── TargetFull         62
├── ProofFailed            70   an expectation or a sampled restore failed
└── Cancelled             130

The number is the exit code of the command line. `Transient` errors are retried, `Terminal` ones never; Airflow's
retry policy needs just these two rules. Messages say what happened to which object, hints what to do next.
"""

from __future__ import annotations

from typing import Any, ClassVar


class Transient:
    """Mixin: the same call may go through later."""


class Terminal:
    """Mixin: the same call will fail again."""


class MoraineError(Exception):
    """Root of all errors of this package; picklable, so it crosses process borders whole."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.context)

    def __str__(self) -> str:
        return self.message

    def line(self) -> str:
        """The error as the one line a person reads: `code: message (hint)`."""
        return f"{self.code}: {self.message}" + (f" ({self.hint})" if self.hint else "")

    def to_dict(self) -> dict[str, Any]:
        """The error as the command line's `--json` and the UI print it."""
        context = {
            k: v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else v for k, v in self.context.items()
        }
        return {"code": self.code, "message": self.message, "hint": self.hint, "context": context}


def _rebuild(cls: type[MoraineError], message: str, hint: str | None, context: dict[str, Any]) -> MoraineError:
    return cls(message, hint=hint, **context)


class ConfigError(MoraineError, Terminal):
    """A policy, parameter or flag is wrong."""

    code = "config"
    exit_code = 10


class UnsafeRetention(ConfigError):
    """A retention rule is empty, unknown or would forget everything."""

    code = "unsafe-retention"


class SourceError(MoraineError, Terminal):
    """The source cannot be read as the policy says."""

    code = "source"
    exit_code = 20


class SourceMissing(SourceError):
    """The source is not there."""

    code = "source-missing"


class SourceUnmounted(SourceError):
    """The source is an empty mount point: the file system is not mounted."""

    code = "source-unmounted"


class SourceDenied(SourceError):
    """An entry of the source may not be read."""

    code = "source-denied"


class SourceVanished(SourceError):
    """An entry of the source has gone since it was listed."""

    code = "source-vanished"


class GateRefused(SourceError):
    """The change set looks like an accident; nothing was committed."""

    code = "gate-refused"
    exit_code = 21


class StoreError(MoraineError, Terminal):
    """The object service failed for good."""

    code = "store"
    exit_code = 30


class ObjectNotFound(StoreError):
    """No object has this key."""

    code = "object-not-found"


class ObjectExists(StoreError):
    """A create-only put met an object of the same key."""

    code = "object-exists"


class AccessDenied(StoreError):
    """The store refuses these credentials, or this call with them."""

    code = "access-denied"
    exit_code = 31


class StoreFull(StoreError):
    """The store has no space or quota left."""

    code = "store-full"
    exit_code = 32


class StoreUnavailable(MoraineError, Transient):
    """The store did not answer, throttles, or failed in passing."""

    code = "store-unavailable"
    exit_code = 33


class StoreUnfit(StoreError):
    """The capability probe found that the store breaks a rule the repository relies on."""

    code = "store-unfit"
    exit_code = 34


class ReadOnlyStore(StoreError):
    """The store can be read but not written."""

    code = "store-read-only"
    exit_code = 35


class RepositoryError(MoraineError, Terminal):
    """The repository refuses what was asked."""

    code = "repository"
    exit_code = 40


class NotARepository(RepositoryError):
    """Nothing at this address is a Moraine repository."""

    code = "not-a-repository"


class AlreadyARepository(RepositoryError):
    """`repo init` met a repository."""

    code = "already-a-repository"


class UnsupportedFormat(RepositoryError):
    """The repository was written by a newer format."""

    code = "unsupported-format"
    exit_code = 41


class WrongPassphrase(RepositoryError):
    """No key slot opens with this passphrase or generated key."""

    code = "wrong-passphrase"
    exit_code = 42


class KeyUnavailable(RepositoryError):
    """This key opens the repository, but not what was asked of it."""

    code = "key-unavailable"
    exit_code = 42


class SnapshotNotFound(RepositoryError):
    """No live snapshot matches."""

    code = "snapshot-not-found"
    exit_code = 43


class SessionClosed(RepositoryError):
    """The session has been committed, closed or abandoned in the log."""

    code = "session-closed"
    exit_code = 44


class SessionGone(RepositoryError):
    """The session's working files are no longer there."""

    code = "session-gone"
    exit_code = 44


class Fenced(RepositoryError):
    """A newer attempt of the same run has taken over."""

    code = "fenced"
    exit_code = 45


class CommitRefused(RepositoryError):
    """The commit does not hold against the log's head."""

    code = "commit-refused"
    exit_code = 46


class ClockSkew(RepositoryError):
    """This machine's clock contradicts the repository's log."""

    code = "clock-skew"
    exit_code = 47


class IntegrityError(MoraineError, Terminal):
    """Stored bytes are not what they were."""

    code = "integrity"
    exit_code = 50


class DamagedObject(IntegrityError):
    """An object's bytes do not match its digest or authentication tag."""

    code = "damaged-object"


class MissingObject(IntegrityError):
    """A committed object is gone."""

    code = "missing-object"


class ForgedObject(IntegrityError):
    """An object is well formed, but was not written by a holder of the repository's keys."""

    code = "forged-object"
    exit_code = 51


class RestoreError(MoraineError, Terminal):
    """The restore cannot go on as planned."""

    code = "restore"
    exit_code = 60


class UnsafePath(RestoreError):
    """A path would lead outside the target."""

    code = "unsafe-path"
    exit_code = 61


class TargetFull(RestoreError):
    """The target has no space left."""

    code = "target-full"
    exit_code = 62


class ProofFailed(MoraineError, Terminal):
    """An expectation or a sampled restore failed."""

    code = "proof-failed"
    exit_code = 70


class ObjectiveMissed(MoraineError, Terminal):
    """What was promised of recovery (rpo, rto) does not hold."""

    code = "objective-missed"
    exit_code = 80


class Cancelled(MoraineError, Terminal):
    """The user or the scheduler stopped the run."""

    code = "cancelled"
    exit_code = 130
