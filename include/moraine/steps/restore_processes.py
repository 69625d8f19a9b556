"""Parts of a restore in processes of their own: each writes with the writer it was born with, as it is there.

Notes and counts end up in this process's writer. Knows nothing of packs or rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from moraine.model.progress import Progress
from moraine.model.record import dataclass
from moraine.sources.posix_target_writer import PosixWriter
from moraine.sources.target import Notes
from moraine.steps.processes import Part, in_processes


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a process did from beginning to end."""

    counts: dict[str, int]
    notes: Notes


def write_in_processes(parts: Sequence[Part], writer: PosixWriter, progress: Progress) -> None:
    """Do parts that return nothing at once; see `in_processes`. `writer` takes notes and counts of all of them."""

    def take(outcome: _Outcome | None) -> None:
        if outcome:
            writer.join(outcome.counts, outcome.notes)

    in_processes(parts, progress, name="restore", apart=partial(_outcome, writer), take=take)


def _outcome(writer: PosixWriter, part: Part, told: Progress) -> Iterator[_Outcome]:
    before = writer.counts
    writer.notes.kept.clear()
    writer.notes.counts.clear()
    with writer:  # which removes what is not complete
        part(told)
    yield _Outcome({name: count - before[name] for name, count in writer.counts.items()}, writer.notes)
