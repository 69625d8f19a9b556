"""commit: index segment, manifest, snapshot object, and last the one log entry that makes it a restore point.

Nothing refers to what is not yet durable, so a crash anywhere leaves only garbage. The log entry is validated against
the head: the session must be open under this attempt. A twin that comes second finds the session committed and answers
with the first one's snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from moraine import __version__
from moraine.errors import CommitRefused, GateRefused, SessionClosed
from moraine.model import compute as pc
from moraine.model.entry import Op
from moraine.model.log import LogState, SegmentRef
from moraine.model.record import dataclass
from moraine.model.snapshot import Snapshot, SnapshotRecord, Totals
from moraine.repository import layout
from moraine.repository.documents import digest
from moraine.repository.index_segments import write_segments
from moraine.repository.manifest import ManifestWriter, Written
from moraine.repository.sealed_documents import write_sealed
from moraine.repository.work import Ref
from moraine.steps.commit_rows import Tally, final_rows
from moraine.steps.diff import Diffed
from moraine.steps.gate import most_unreadable
from moraine.steps.run import Run
from moraine.stores.ahead import begin


@dataclass(frozen=True, slots=True)
class Committed:
    """The new snapshot, in numbers."""

    snapshot: str
    window: dict[str, str]
    files: int
    bytes: int
    changed: int
    added: int  # bytes of content that was not in the repository before
    stored: int  # what they take, compressed and sealed
    racy: int
    unreadable: int
    late: bool
    digest: str
    exit_code: int  # 0, or 3 when some files could not be read
    notes: tuple[str, ...] = ()  # what people should know of the files that were read


def commit(run: Run, diffed: Diffed, outcomes: Sequence[Ref], evidence: Sequence[Ref]) -> Committed:
    """Make the snapshot a fact.

    Args:
        run: the run.
        diffed: the change set.
        outcomes: what each copy shard did.
        evidence: what each verify shard saw.

    Raises:
        CommitRefused: a shard's outcome or evidence is missing; names the shards to clear.
        GateRefused: more unreadable files than the policy allows.
        SessionClosed, Fenced: somebody else has ended or taken over the session.
    """
    done = _committed_before(run)
    if done:
        return done
    run.progress.start("commit")
    copied = {doc["shard"]: doc for doc in map(run.work.load_json, outcomes)}
    proofs = [run.work.load_json(ref) for ref in evidence]
    _require_complete(diffed, copied, proofs)
    tally = Tally(diffed.counts, list(copied.values()))
    write_index = begin(run.repository.store, lambda: _write_index(run, list(copied.values())))
    written, parent = _write_manifest(run, diffed, copied, tally)
    segments = write_index()  # neither refers to the other; what follows refers to both
    totals = tally.totals()
    _require_readable(run, totals)
    snapshot = _describe(run, written, parent, totals, proofs, tally.notes())
    record = _store_snapshot(run, snapshot)
    body = {
        "snapshot": record.to_dict(),
        "attempt": run.session.attempt,
        "segments": [asdict(segment) for segment in segments],
    }
    try:
        run.repository.log.append("commit", body, now=run.clock(), validate=lambda state: _validate(run, state))
    except SessionClosed:
        run.repository.log.refresh()
        done = _committed_before(run)
        if done is None:
            raise
        return done
    run.progress.finish("commit")
    return _answer(record, snapshot)


def _validate(run: Run, state: LogState) -> None:
    state.require_open(run.session.id, run.session.attempt)
    if run.mirror:
        require_newest(run, state)


def require_newest(run: Run, state: LogState) -> None:
    """A mirror has one state: a run that began from an older one may not say what is in it now.

    Raises:
        CommitRefused: another run has committed meanwhile.
    """
    newest = max(state.live(run.policy.policy), key=lambda s: (s.window.end, s.captured_at), default=None)
    if newest and newest.id != run.session.parent and newest.session != run.session.id:
        raise CommitRefused(
            f"another run of this mirror has committed snapshot {newest.id} meanwhile",
            hint="run it again (or clear `open` and everything after it): it goes on from there",
        )


def _committed_before(run: Run) -> Committed | None:
    for record in run.repository.state.snapshots.values():
        if record.session == run.session.id:
            return _answer(record, run.repository.snapshot(record.id))
    return None


def _require_complete(diffed: Diffed, copied: dict[int, Any], proofs: list[Any]) -> None:
    wanted = {shard.number for shard in diffed.shards}
    missing = sorted(wanted - copied.keys())
    unproven = sorted(
        {pack["key"] for doc in copied.values() for pack in doc["packs"]}
        - {key for proof in proofs for key in proof["packs"]}
    )
    if missing:
        raise CommitRefused(
            f"copy shards {missing} have no outcome", hint="clear those map indexes of `copy`", shards=missing
        )
    if unproven:
        raise CommitRefused(
            f"{len(unproven)} packs were never verified, {unproven[0]} among them",
            hint="clear `verify`",
            packs=unproven[:20],
        )


def _require_readable(run: Run, totals: Totals) -> None:
    rows = totals.files + totals.directories + totals.others
    if totals.unreadable > most_unreadable(run.policy, totals.files, rows):
        raise GateRefused(
            f"{totals.unreadable:,} of {totals.files:,} files could not be read, more than the policy's limit",
            hint="see the rows with state denied or vanished in the copy tasks' logs; or raise `limits`",
            unreadable=totals.unreadable,
        )


def _write_manifest(run: Run, diffed: Diffed, copied: dict[int, Any], tally: Tally) -> tuple[Written, Snapshot | None]:
    repository = run.repository
    known = run.session.parent
    parent = repository.snapshot(known) if known in repository.state.snapshots else None

    def make_key(kind: str) -> str:
        ulid = repository.new_id(run.clock())
        return layout.shard(ulid) if kind == "shard" else layout.delta(ulid)

    writer = ManifestWriter(repository.store, repository.keyring, make_key, diffed.counts["entries"])
    rows = final_rows(run, diffed, copied, tally)
    if parent is None:
        return writer.write_first(table.filter(pc.not_equal(table["op"], int(Op.DELETED))) for table in rows), None
    return writer.write_next(repository.manifest(parent), parent, rows), parent


def _write_index(run: Run, outcomes: list[Any]) -> list[SegmentRef]:
    repository = run.repository
    return write_segments(
        (run.work.load_table(ref) for doc in outcomes for ref in doc["locations"]),
        make_key=lambda: layout.segment(repository.new_id(run.clock())),
        store=repository.store,
        keyring=repository.keyring,
    )


def _describe(
    run: Run,
    written: Written,
    parent: Snapshot | None,
    totals: Totals,
    proofs: list[Any],
    notes: tuple[str, ...],
) -> Snapshot:
    session, now = run.session, run.clock()
    return Snapshot(
        id=run.repository.new_id(now),
        session=session.id,
        run=session.run,
        attempt=session.attempt,
        policy=session.policy,
        policy_digest=run.policy.digest,
        source=run.policy.source.origin,
        host=session.host,
        window=session.window,
        captured_at=session.opened_at,
        finished_at=now,
        late=session.late,
        parent=parent.id if parent else None,
        totals=totals,
        shards=written.shards,
        deltas=written.deltas,
        sequence=written.sequence,
        evidence=tuple(
            {k: v for k, v in proof.items() if k != "packs"} | {"packs": len(proof["packs"])} for proof in proofs
        ),
        version=__version__,
        notes=notes,
    )


def _store_snapshot(run: Run, snapshot: Snapshot) -> SnapshotRecord:
    repository = run.repository
    key = layout.snapshot(snapshot.id)
    data = write_sealed(snapshot.to_dict(), key=key, keyring=repository.keyring, entropy=run.entropy)
    repository.store.put(key, data)
    return SnapshotRecord(
        id=snapshot.id,
        key=key,
        digest=digest(data),
        session=snapshot.session,
        policy=snapshot.policy,
        source=snapshot.source,
        host=snapshot.host,
        window=snapshot.window,
        captured_at=snapshot.captured_at,
        finished_at=snapshot.finished_at,
        late=snapshot.late,
        files=snapshot.totals.files,
        bytes=snapshot.totals.bytes,
        added=snapshot.totals.added_bytes,
        stored=snapshot.totals.stored_bytes,
        unreadable=snapshot.totals.unreadable,
    )


def _answer(record: SnapshotRecord, snapshot: Snapshot) -> Committed:
    return Committed(
        snapshot=record.id,
        window=record.window.to_dict(),
        files=record.files,
        bytes=record.bytes,
        changed=snapshot.totals.changed,
        added=record.added,
        stored=record.stored,
        racy=snapshot.totals.racy,
        unreadable=record.unreadable,
        late=record.late,
        digest=record.digest,
        exit_code=3 if record.unreadable else 0,
        notes=snapshot.notes,
    )
