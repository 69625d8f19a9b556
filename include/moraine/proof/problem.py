"""What a proof found wrong, in a form that reports, errors and pages share."""

from __future__ import annotations

from dataclasses import asdict, field
from typing import Any

from moraine.errors import MoraineError
from moraine.model.record import dataclass
from moraine.proof.expectations import Finding


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be."""

    code: str  # expectation, sample, or an error's code
    what: str
    rows: list[str] = field(default_factory=list)  # paths, the first few

    @classmethod
    def of_finding(cls, finding: Finding) -> Problem:
        """A failed expectation."""
        return cls("expectation", finding.line(), list(finding.rows))

    @classmethod
    def of_error(cls, where: str, error: MoraineError) -> Problem:
        """An error that ended a part of the proof."""
        return cls(error.code, f"{where}: {error.message}")

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)
