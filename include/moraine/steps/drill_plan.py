"""plan of a drill: the manifest is judged, the files are chosen and cut into parts, and the place is made ready.

Nothing is restored yet. The documents `plan` and `sets` in the place are what the later tasks work by.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from moraine.errors import ProofFailed
from moraine.model.policy import Drill, Policy
from moraine.model.progress import NoProgress, Progress
from moraine.model.record import dataclass
from moraine.model.window import format_time, parse_time
from moraine.proof.data_sets import CheckResult, plan_data_sets
from moraine.proof.drill_sample import Subtrees, WeightedSampler
from moraine.repository.repository import Repository
from moraine.steps.drill_pick import Picked
from moraine.steps.drill_place import DrillPlace, require_apart, require_room
from moraine.steps.prove_manifest import ManifestProof, prove_manifest
from moraine.steps.run import Clock

_SEVERAL = 500  # first-level names; beyond them a whole snapshot is one part
_SPECIAL = re.compile(rb"([*?\[\\])")

Json = dict[str, Any]
Part = Json  # number, label, files, bytes, and what it selects: paths, or include and exclude; all quoted


@dataclass(frozen=True, slots=True)
class PlannedDrill:
    """What will be restored."""

    parts: list[Json]  # number, label, files, bytes
    files: int
    bytes: int
    checks: list[Json]
    not_proven: list[str]
    library: str  # version of Great Expectations
    started_at: str
    finished_at: str


@dataclass(slots=True)
class _Choice:
    """What a manifest came to: parts, and what they leave out."""

    parts: list[Part] = field(default_factory=list)
    not_proven: list[str] = field(default_factory=list)


def plan_drill(
    repository: Repository,
    policy: Policy,
    picked: Picked,
    place: DrillPlace,
    *,
    owner: str,
    clock: Clock,
    progress: Progress | None = None,
) -> PlannedDrill:
    """Make the place, judge the manifest, choose the files.

    Raises:
        ConfigError: the place has to do with the source or the repository.
        TargetFull: what would be restored does not fit into the quota, or onto the disk.
        ProofFailed: the manifest is not what it should be; nothing is restored from it.
        DamagedObject, MissingObject, ForgedObject: the snapshot cannot be read.
    """
    rules, started = policy.drill, clock()
    require_apart(place.base, policy, repository)
    place.make(owner=owner, policy=policy.policy, now=started, expires=rules.place.expires)
    snapshot = repository.snapshot(picked.snapshot)
    chooser = Subtrees() if picked.whole else _sampler(rules, picked)
    proof = prove_manifest(repository, policy, snapshot, chooser, progress or NoProgress())
    checks = _checks(proof)
    if proof.problems:
        raise ProofFailed(
            f"the manifest of snapshot {snapshot.id} does not hold: {proof.problems[0].what}",
            hint="nothing is restored from such a manifest; `moraine check` tells what is wrong",
            checks=checks,
        )
    choice = _whole(chooser, rules) if isinstance(chooser, Subtrees) else _sample(chooser, rules)
    files, size = (sum(part[name] for part in choice.parts) for name in ("files", "bytes"))
    require_room(place.base, size, rules.place.quota)
    place.save("plan", {"parts": choice.parts, "whole": picked.whole, "quota": rules.place.quota})
    shown = [{name: part[name] for name in ("number", "label", "files", "bytes")} for part in choice.parts]
    said = choice.not_proven + _never_proven(proof, picked)
    return PlannedDrill(shown, files, size, checks, said, proof.library, format_time(started), format_time(clock()))


def plan_sets(repository: Repository, policy: Policy, picked: Picked, place: DrillPlace) -> list[Json]:
    """What `validate` is mapped over: the content of each restored part, and every data set; number and label."""
    snapshot = repository.snapshot(picked.snapshot)
    parts = place.load("plan")["parts"]
    sets = plan_data_sets(repository, snapshot, policy)
    sets = sets if picked.whole else [one.sampled() for one in sets]
    items = [{"content": part["number"], "label": f"content of {part['label']}"} for part in parts]
    items += [{"set": one.to_dict(), "label": one.name} for one in sets]
    place.save("sets", items)
    return [{"number": number, "label": item["label"]} for number, item in enumerate(items)]


def load_part(place: DrillPlace, number: int) -> Part:
    """One part of the plan, its paths as bytes."""
    part: Part = place.load("plan")["parts"][number]
    quoted = {name: part[name] for name in ("paths", "include", "exclude") if part.get(name) is not None}
    return part | {name: [unquote_to_bytes(path) for path in paths] for name, paths in quoted.items()}


def _sampler(rules: Drill, picked: Picked) -> WeightedSampler:
    sample = rules.sample
    return WeightedSampler(
        seed=picked.seed,
        files=sample.files,
        bytes=sample.bytes,
        value=sample.value,
        age=sample.age,
        now=parse_time(picked.started_at),
    )


def _sample(sampler: WeightedSampler, rules: Drill) -> _Choice:
    groups: list[tuple[list[bytes], int]] = [([], 0) for _ in range(rules.parts)]
    for path, size in sampler.chosen():
        at = min(range(len(groups)), key=lambda number: groups[number][1] + 4096 * len(groups[number][0]))
        groups[at][0].append(path)
        groups[at] = (groups[at][0], groups[at][1] + size)
    used = [group for group in groups if group[0]] or groups[:1]
    parts = [
        _part(number, len(used), len(paths), size, paths=[quote_from_bytes(path) for path in paths])
        for number, (paths, size) in enumerate(used)
    ]
    seen = sampler.population
    left = seen.files - sum(part["files"] for part in parts)
    left_bytes = seen.bytes - sum(part["bytes"] for part in parts)
    said = (
        [f"the content of {left:,} of {seen.files:,} files ({left_bytes:,} bytes): not in the sample"] if left else []
    )
    if seen.too_large:
        said.append(f"{seen.too_large:,} files larger than drill.sample.bytes: never in a sample")
    return _Choice(parts, said)


def _whole(subtrees: Subtrees, rules: Drill) -> _Choice:
    groups = subtrees.parts(rules.parts)
    total = subtrees.population
    if len(groups) < 2 or sum(len(names) for names, _, _ in groups) > _SEVERAL:
        return _Choice([_part(0, 1, total.files, total.bytes, include=[], exclude=[])])
    # The first part takes everything that no other names, so that what is no file is restored too.
    named = [[_escaped(name) for name in names] for names, _, _ in groups]
    others = [name for names in named[1:] for name in names]
    parts = []
    for number, (_, files, size) in enumerate(groups):
        what = {"include": named[number], "exclude": []} if number else {"include": [], "exclude": others}
        parts.append(_part(number, len(groups), files, size, **what))
    return _Choice(parts)


def _part(number: int, of: int, files: int, size: int, **what: list[str]) -> Part:
    label = f"part {number + 1} of {of}"
    return {"number": number, "label": label, "files": files, "bytes": size, **what}


def _escaped(name: bytes) -> str:
    return quote_from_bytes(_SPECIAL.sub(rb"\\\1", name))


def _checks(proof: ManifestProof) -> list[Json]:
    """Every expectation about the manifest as a check."""
    found = []
    for suite in proof.validations.values():
        for result in suite["results"]:
            config, body = result["expectation_config"], result["result"]
            columns = [str(v) for k, v in config["kwargs"].items() if k in ("column", "column_A", "column_B")]
            name = f"{config.get('description') or config['type']} ({', '.join(columns) or config['type']})"
            wrong, rows = body.get("unexpected_count") or 0, body.get("element_count") or 0
            detail = "; ".join(body.get("partial_unexpected_index_list", [])[:3])
            found.append(
                CheckResult(name, result["success"], "0 rows wrong", f"{wrong:,} of {rows:,} wrong", detail).to_dict()
            )
    for problem in proof.problems:
        if problem.code != "expectation":
            found.append(CheckResult("the manifest can be read", False, "readable", problem.what).to_dict())
    return found


def _never_proven(proof: ManifestProof, picked: Picked) -> list[str]:
    said = ["owners of restored files: they belong to the user of the drill"]
    if proof.counts.unreadable:
        said.append(f"{proof.counts.unreadable:,} entries that could not be read when the snapshot was taken")
    if not picked.whole:
        said.append("directories, links and special files: a sample is of files")
    return said
