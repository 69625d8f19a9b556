"""gate: stop a change set that looks like an accident before anything is copied."""

from __future__ import annotations

import numpy as np

from moraine.errors import GateRefused
from moraine.model import compute as pc
from moraine.model.entry import Kind, Op, join_path, split_path
from moraine.model.policy import Gate, Policy
from moraine.model.record import dataclass
from moraine.steps.diff import Diffed
from moraine.steps.run import Run


@dataclass(frozen=True, slots=True)
class Gated:
    """The gate's answer; a refusal is an error."""

    verdict: str  # "pass"
    reasons: tuple[str, ...]


def gate_changes(run: Run, diffed: Diffed) -> Gated:
    """Let the change set through, or refuse it.

    Raises:
        GateRefused: with every reason; the parent snapshot stays the newest.
    """
    refused, passed = _judge(run.policy.gate, diffed.counts)
    for path in run.policy.gate.canaries:
        if problem := _canary(run, diffed, path.encode("utf-8", "surrogateescape")):
            refused.append(problem)
    if refused:
        raise GateRefused(
            f"the change set was refused: {'; '.join(refused)}",
            hint="look at the source; if the change is meant, run once with `allow_change` (or --allow-change)",
            reasons=refused,
        )
    return Gated("pass", tuple(passed))


def _judge(gate: Gate, counts: dict[str, int]) -> tuple[list[str], list[str]]:
    refused: list[str] = []
    passed: list[str] = []

    def rule(broken: bool, text: str) -> None:
        (refused if broken else passed).append(text)

    before, deleted, modified = counts["parent_files"], counts["deleted_files"], counts["modified_files"]
    rule(counts["files"] == 0 and not gate.allow_empty, f"the source holds {counts['files']:,} files")
    if before >= max(1, gate.min_files_for_shares):
        rule(deleted / before > gate.max_deleted_share, f"{deleted:,} of {before:,} files deleted")
        if gate.max_changed_share is not None:
            rule(modified / before > gate.max_changed_share, f"{modified:,} of {before:,} files modified")
    if gate.max_deleted_files is not None:
        rule(deleted > gate.max_deleted_files, f"{deleted:,} files deleted, {gate.max_deleted_files:,} allowed")
    return refused, passed


def _canary(run: Run, diffed: Diffed, path: bytes) -> str | None:
    """What is wrong with a canary file: it must be there, and must not have changed."""
    directory, name = split_path(path.strip(b"/"))
    for table in run.work.load_pieces(diffed.changes, columns=["dir", "name", "op", "kind"]):
        here = pc.and_(pc.equal(table["dir"].cast("binary"), directory), pc.equal(table["name"], name))
        rows = np.flatnonzero(here.to_numpy())
        if len(rows):
            op = Op(table["op"][int(rows[0])].as_py())
            text = path.decode("utf-8", "backslashreplace")
            if op == Op.DELETED:
                return f"canary {text} is gone"
            return f"canary {text} was changed" if op in (Op.MODIFIED,) else None
    parent = run.session.parent
    if parent in run.repository.state.snapshots:
        rows_under = run.repository.manifest(run.repository.snapshot(parent)).tables(
            ["kind"], under=join_path(directory, name)
        )
        if any(Kind.FILE in table["kind"].to_pylist() for table in rows_under):
            return None
    return f"canary {path.decode('utf-8', 'backslashreplace')} is not in the source"


def most_unreadable(policy: Policy, files: int, rows: int) -> int:
    """How many entries of a snapshot with `files` files and `rows` rows may be unreadable under the policy's limits."""
    limits, most = policy.limits, rows
    if limits.unreadable_files is not None:
        most = limits.unreadable_files
    if files >= policy.gate.min_files_for_shares:
        most = min(most, int(limits.unreadable_share * files))
    return most
