"""What a check found: problems, each with the snapshots and paths it costs, and notes. Knows no object and no store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Any

import pyarrow as pa

from moraine.errors import DamagedObject, ForgedObject, MissingObject, ObjectNotFound
from moraine.model.record import dataclass

PATHS = 100  # named for each problem; all are counted


@dataclass(slots=True, eq=False)
class Problem:
    """One damaged, missing or forged object, and what is lost by it."""

    code: str
    object: str
    message: str
    snapshots: set[str] = field(default_factory=set)
    files: int = 0  # versions of files, each counted in every snapshot that has it
    paths: dict[str, None] = field(default_factory=dict)  # the first PATHS of them

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "code": self.code,
            "object": self.object,
            "message": self.message,
            "snapshots": sorted(self.snapshots),
            "files": self.files,
            "paths": list(self.paths),
        }


@dataclass(slots=True)
class Findings:
    """All findings of one check."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    lost: list[tuple[int, pa.Array]] = field(default_factory=list)  # number of a problem, ids of chunks it costs

    def add(self, code: str, key: str, message: str) -> Problem:
        """One more problem."""
        problem = Problem(code, key, message)
        self.problems.append(problem)
        return problem

    def lose(self, problem: Problem, ids: pa.Array) -> None:
        """The problem costs these chunks."""
        if len(ids):
            self.lost.append((self.problems.index(problem), ids))

    def note(self, code: str, message: str) -> None:
        """Something worth knowing that is no problem."""
        self.notes.append({"code": code, "message": message})

    def count(self, what: str, number: int = 1) -> None:
        """So much was looked at."""
        self.counts[what] = self.counts.get(what, 0) + number

    @contextmanager
    def guard(self, what: str, key: str) -> Iterator[None]:
        """Damage met inside becomes a problem `<what>-missing`, `-damaged` or `-forged`; other trouble is raised."""
        try:
            yield
        except (MissingObject, ObjectNotFound) as error:
            self.add(f"{what}-missing", key, error.message)
        except DamagedObject as error:
            self.add(f"{what}-damaged", key, error.message)
        except ForgedObject as error:
            self.add(f"{what}-forged", key, error.message)
