"""What happens to each row of a snapshot, given what is in the target. Pure: columns in, verdicts out."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from moraine.model import compute as pc
from moraine.model.entry import Kind
from moraine.sources.target import TargetFacts, Verdict
from moraine.steps.restore_rows import Numbers, Window

Verdicts = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_NUMBERS = ("kind", "size", "mode", "uid", "gid", "mtime", "mtime_ns", "rdev")
LINK = np.uint8(0x40)  # set beside the verdict: the row is one more name of a file that another row restores
REASONS = {
    Verdict.CREATE: ("create", "is not in the target"),
    Verdict.REPLACE: ("overwrite", "differs from what the target has"),
    Verdict.REPLACE_TREE: ("overwrite", "a directory is in its place and goes with all that is in it"),
    Verdict.REFRESH: ("refresh", "content is right, attributes are not"),
    Verdict.SAME: ("nothing", "is in the target as it was"),
    Verdict.KEEP: ("keep", "the overwrite rule keeps what the target has"),
    Verdict.CONFLICT: ("conflict", "something in its way may not be removed"),
    Verdict.ABSENT: ("absent", "the snapshot holds no content: it could not be read"),
    Verdict.MERGE: ("refresh", "the directory is there and gets its attributes back"),
    Verdict.STAY: ("nothing", "the directory is in the target as it was"),
    Verdict.PASS: ("nothing", "the directory stays as it is, or is made by what is in it"),
}
WRITTEN = (Verdict.CREATE, Verdict.REPLACE, Verdict.REPLACE_TREE)
HERE = (*WRITTEN, Verdict.REFRESH, Verdict.SAME)  # its content will be right


class Overwrite(StrEnum):
    """What happens to an entry that is in the target already."""

    ALWAYS = "always"
    IF_CHANGED = "if-changed"
    IF_NEWER = "if-newer"
    NEVER = "never"


def uncaptured(window: Window) -> Mask:
    """Rows that say that an entry was there, and nothing to make it from."""
    kind = window.kind
    without: Mask = (kind == Kind.FILE) & ~window.valid("digest") | (kind == Kind.SYMLINK) & ~window.valid("target")
    without |= window.column("nlink") == 0  # not even its attributes were seen
    return without


def judge(
    window: Window, rows: Numbers, found: pa.Table, rule: Overwrite, *, delete: bool, facts: TargetFacts
) -> Verdicts:
    """Verdicts of `rows` of a window, none of them a directory, each compared with its row in `found` (FOUND).

    Args:
        window: the rows.
        rows: numbers of those to judge.
        found: what the target has at their paths.
        rule: what is overwritten.
        delete: whether a directory may give way.
        facts: whether owners and extended attributes count.
    """
    there = {name: found[name].to_numpy() for name in _NUMBERS}
    here = {name: window.column(name)[rows] for name in there}
    kind = here["kind"]
    same_second = here["mtime"] == there["mtime"]
    same_time = same_second & (here["mtime_ns"] == there["mtime_ns"])
    newer = (here["mtime"] > there["mtime"]) | same_second & (here["mtime_ns"] > there["mtime_ns"])
    content = kind == there["kind"]
    equal = np.asarray(pc.coalesce(found["content"], pc.from_numpy(same_time)))
    timeless = np.asarray(pc.is_valid(found["attributes"]))  # an object: its time is when it was put there
    content &= (kind != Kind.FILE) | equal & (here["size"] == there["size"])
    content &= (kind != Kind.SYMLINK) | _equal(window, "target", rows, found)
    content &= ~np.isin(kind, (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)) | (here["rdev"] == there["rdev"])
    same = content & (same_time | timeless)
    if facts.xattrs:
        xattrs = pc.from_numpy(_equal(window, "xattrs", rows, found))
        same &= np.asarray(pc.coalesce(found["attributes"], xattrs))
    same &= (kind == Kind.SYMLINK) | (here["mode"] == there["mode"])
    if facts.owners:
        same &= (here["uid"] == there["uid"]) & (here["gid"] == there["gid"])
    right = np.where(same, Verdict.SAME, Verdict.REFRESH)
    if rule == Overwrite.ALWAYS:
        verdict = np.full(len(rows), Verdict.REPLACE)
    elif rule == Overwrite.IF_CHANGED:
        verdict = np.where(content, right, Verdict.REPLACE)
    elif rule == Overwrite.IF_NEWER:
        verdict = np.where(content, right, np.where(newer, Verdict.REPLACE, Verdict.KEEP))
    else:
        verdict = np.where(same, Verdict.SAME, Verdict.KEEP)
    in_the_way = (there["kind"] == Kind.DIRECTORY) & (verdict == Verdict.REPLACE)
    verdict[in_the_way] = Verdict.REPLACE_TREE if delete else Verdict.CONFLICT
    verdict[there["kind"] == 0] = Verdict.CREATE
    return verdict.astype(np.uint8)


def judge_directory(kind: int, rule: Overwrite, *, unfinished: bool, newer: bool, same: bool, asked: bool) -> Verdict:
    """The verdict of a directory, by the kind of what is at its path in the target.

    Args:
        kind: of what is there; 0 for nothing.
        rule: what is overwritten.
        unfinished: whether a restore made the directory there and has not finished it.
        newer: whether the row is newer than what is there.
        same: whether a directory is there with the row's attributes.
        asked: whether the directory itself was asked for; else it is only on the way to something.
    """
    if not kind:
        return Verdict.CREATE
    yields = rule in (Overwrite.ALWAYS, Overwrite.IF_CHANGED) or (rule == Overwrite.IF_NEWER and newer)
    if kind != Kind.DIRECTORY:
        return Verdict.REPLACE if yields else Verdict.CONFLICT
    if not unfinished and not (asked and (yields or same)):
        return Verdict.PASS
    return Verdict.STAY if same else Verdict.MERGE


def _equal(window: Window, name: str, rows: Numbers, found: pa.Table) -> Mask:
    left, right = pc.take(window.table[name], pc.from_numpy(rows)).combine_chunks(), found[name].combine_chunks()
    equal = pc.coalesce(pc.equal(left, right), pa.scalar(False))
    mask: Mask = np.asarray(pc.or_(equal, pc.and_(pc.is_null(left), pc.is_null(right))))
    return mask
