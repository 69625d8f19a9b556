"""measure: how fast a drill restored, what a full restore would take at that pace, and whether that is fast enough.

The forecast scales the measured time by bytes and by files and takes the larger, so a sample of large files does not
promise a quick restore of many small ones. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from moraine.model.policy import Objectives
from moraine.model.record import dataclass
from moraine.model.units import format_duration, format_size
from moraine.model.window import parse_time


@dataclass(frozen=True, slots=True)
class Measured:
    """The pace of a drill, and what follows from it; seconds, bytes and counts."""

    store: str
    files: int
    bytes: int
    seconds: float  # in which at least one restore task was at work
    files_per_second: float
    bytes_per_second: float
    full_files: int
    full_bytes: int
    recall_seconds: float
    forecast_seconds: float
    rto_seconds: float | None
    within: bool | None  # None: nothing was promised
    assumptions: list[str]

    @property
    def reason(self) -> str:
        """What the forecast says of the promise."""
        forecast = format_duration(timedelta(seconds=max(round(self.forecast_seconds), 1)))
        promised = format_duration(timedelta(seconds=self.rto_seconds or 0))
        return f"a full restore is forecast to take {forecast}, the objective (rto) is {promised}"


def measure(
    restored: Sequence[dict[str, Any]],
    *,
    planned: tuple[int, int],
    files: int,
    bytes: int,
    objectives: Objectives,
    store: str,
) -> Measured:
    """Measure a drill by what its restore tasks came to.

    Args:
        restored: their results.
        planned: files and bytes they were to restore.
        files: of the whole snapshot.
        bytes: of the whole snapshot.
        objectives: of the policy.
        store: where the repository is.
    """
    seconds = max(_busy([tuple(span) for part in restored for span in part["attempts"]]), 1e-6)
    got_files, got_bytes = (sum(part[name] for part in restored) for name in ("files", "bytes"))
    # Planned, as full, counts every name of a file and its holes; what was written does not.
    scale = max(1.0, *(every / part if part else 1.0 for every, part in zip((files, bytes), planned, strict=True)))
    recall = objectives.recall.total_seconds()
    forecast = seconds * scale + recall
    rto = objectives.rto.total_seconds() if objectives.rto else None
    return Measured(
        store=store,
        files=got_files,
        bytes=got_bytes,
        seconds=seconds,
        files_per_second=got_files / seconds,
        bytes_per_second=got_bytes / seconds,
        full_files=files,
        full_bytes=bytes,
        recall_seconds=recall,
        forecast_seconds=forecast,
        rto_seconds=rto,
        within=None if rto is None else forecast <= rto,
        assumptions=_assumptions(objectives, files, bytes, sampled=planned[1] < bytes),
    )


def _busy(spans: Sequence[tuple[str, ...]]) -> float:
    """Seconds that at least one of the spans covers."""
    covered, until = 0.0, None
    for begin, end in sorted((parse_time(span[0]), parse_time(span[1])) for span in spans):
        start = begin if until is None else max(begin, until)
        covered += max((end - start).total_seconds(), 0.0)
        until = end if until is None else max(end, until)
    return covered


def _assumptions(objectives: Objectives, files: int, bytes: int, *, sampled: bool) -> list[str]:
    said = [
        f"a full restore of {files:,} files ({format_size(bytes)}) runs at the pace of this drill, on such a machine"
    ]
    if sampled:
        said.append("the rest of the snapshot is like the sample: the slower of bytes and files counts")
    recall = objectives.recall
    told = f"takes {format_duration(recall)} (objectives.recall)" if recall else "takes no time (objectives.recall)"
    return [*said, f"bringing packs back from a cold tier {told}; the store is not asked"]
