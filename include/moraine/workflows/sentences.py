"""What a task came to, in one sentence: for task logs and for the terminal. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moraine.model.units import format_size

Json = dict[str, Any]


def sentence(step: str, result: Json) -> str:
    """The sentence of a step's result; empty for a step that has none."""
    say = _SENTENCES.get(step)
    return say(result) if say else ""


def count(number: int, word: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _open(result: Json) -> str:
    since = f"against snapshot {result['parent']}" if result["parent"] else "first snapshot"
    return f"session {result['session']}, {since}"


def _list(result: Json) -> str:
    denied = f", {result['denied']:,} unreadable" if result["denied"] else ""
    found = f"{result['entries']:,} entries, {count(result['files'], 'file')}, {format_size(result['bytes'])}{denied}"
    return "; ".join([found, *result.get("remarks", ())])


def _diff(result: Json) -> str:
    counts, shards = result["counts"], result["shards"]
    words = ("added", "modified", "metadata", "renamed", "deleted")
    found = [f"{counts[word]:,} {word}" for word in words if counts.get(word)]
    copying = f"; {count(len(shards), 'part')} to copy" if shards else ""
    return (", ".join(found) or "nothing has changed") + copying


def _gate(result: Json) -> str:
    reasons = f": {'; '.join(result['reasons'])}" if result["reasons"] else ""
    return f"{result['verdict']}{reasons}"


def _copy(result: Json) -> str:
    bad = [f"{result[word]:,} {word}" for word in ("racy", "vanished", "denied", "silent") if result.get(word)]
    read = f"{count(result['files'], 'file')}, {format_size(result['bytes'])} read"
    new = f"{format_size(result['added_bytes'])} new, {format_size(result['stored_bytes'])} stored"
    return ", ".join([read, new, *bad])


def _verify(result: Json) -> str:
    if "target" in result:  # of a restore
        return _verify_restored(result)
    packs = f"{count(result['packs'], 'pack')}, {count(result['chunks'], 'chunk')}"
    return f"{result['depth']}: {packs}, {format_size(result['bytes'])} read back"


def _commit(result: Json) -> str:
    bad = f", {result['unreadable']:,} unreadable" if result["unreadable"] else ""
    size = f"{count(result['files'], 'file')}, {format_size(result['bytes'])}, {format_size(result['added'])} added"
    return "; ".join([f"snapshot {result['snapshot']}: {size}{bad}", *result.get("notes", ())])


def _probe(result: Json) -> str:
    return f"{result['store']} is fit" + (", and the passphrase opens it" if result["opened"] else "")


def _prove(result: Json) -> str:
    sample = f"{count(result['sampled_files'], 'file')}, {format_size(result['sampled_bytes'])}, restored and compared"
    return f"{count(result['expectations'], 'expectation')} hold for {count(result['rows'], 'row')}; {sample}"


def _retain(result: Json) -> str:
    word = "would forget" if result["dry_run"] else "forgotten"
    return f"{count(result['kept'], 'snapshot')} kept, {len(result['forgotten']):,} {word}"


def _close(result: Json) -> str:
    if not result["snapshot"]:
        return "; ".join(result["notes"]) or "nothing was committed; the session waits for a retry"
    return "; ".join(["tidied up", *result["notes"]])


def _plan(result: Json) -> str:
    counts = [f"{number:,} {action}" for action, number in result["counts"].items() if number and action != "nothing"]
    size = f"{count(result['write_files'], 'file')}, {format_size(result['write_bytes'])} to write"
    return f"snapshot {result['snapshot']} to {result['target']}: {', '.join(counts) or 'nothing to do'}; {size}"


def _execute(result: Json) -> str:
    made = [
        f"{result[word]:,} {word}"
        for word in ("directories", "links", "others", "refreshed", "deleted")
        if result[word]
    ]
    notes = [f"{number:,} {code}" for code, number in result["warning_counts"].items()]
    return ", ".join([f"{count(result['files'], 'file')}, {format_size(result['bytes'])} written", *made, *notes])


def _verify_restored(result: Json) -> str:
    return (
        f"{count(result['files'], 'file')} of {result['target']} read again: as snapshot {result['snapshot']} has them"
    )


def _pick(result: Json) -> str:
    much = "the whole of it" if result["whole"] else "a sample of it"
    chosen = f"snapshot {result['snapshot']} of {result['candidates']:,}"
    return f"{chosen}, {much}; drill {result['drill']}, seed {result['seed']}"


def _plan_of_any(result: Json) -> str:
    if "parts" not in result:
        return _plan(result)
    size = f"{count(result['files'], 'file')}, {format_size(result['bytes'])}"
    return f"the manifest holds; {size} to restore in {count(len(result['parts']), 'part')}"


def _restore(result: Json) -> str:
    lost = f", {result['lost']:,} did not come back" if result["lost"] else ""
    size = f"{count(result['files'], 'file')}, {format_size(result['bytes'])}"
    return f"{result['label']}: {size} restored in {result['seconds']:.1f} s{lost}"


def _validate(result: Json) -> str:
    good = sum(check["passed"] for check in result["checks"])
    return f"{result['label']}: {good} of {count(len(result['checks']), 'check')} hold"


def _run(result: Json) -> str:
    answer = result["answered"]
    if not answer:
        return "the policy names no application"
    return f"{answer['what']} {'answers' if answer['passed'] else 'does not answer'}, {answer['seconds']:.1f} s"


def _measure(result: Json) -> str:
    pace = f"{format_size(result['bytes_per_second'])}/s, {result['files_per_second']:,.0f} files/s"
    promised = f", promised {result['rto_seconds']:,.0f} s" if result["rto_seconds"] is not None else ""
    return f"{pace}; a full restore is forecast to take {result['forecast_seconds']:,.1f} s{promised}"


def _report(result: Json) -> str:
    return f"drill {result['drill']} passed: {count(result['checks'], 'check')} of snapshot {result['snapshot']} hold"


def _sweep(swept: Json) -> str:
    verb = "would be removed (dry run)" if swept["dry_run"] else "removed"
    given_up = f"; {count(len(swept['abandoned']), 'open run')} given up" if swept["abandoned"] else ""
    return f"{format_size(swept['bytes'])} {verb}{given_up}"


_SENTENCES: dict[str, Callable[[Json], str]] = {
    "open": _open,
    "list": _list,
    "diff": _diff,
    "gate": _gate,
    "copy": _copy,
    "verify": _verify,
    "commit": _commit,
    "probe": _probe,
    "prove": _prove,
    "retain": _retain,
    "sweep": _sweep,
    "close": _close,
    "plan": _plan_of_any,
    "pick": _pick,
    "restore": _restore,
    "validate": _validate,
    "run": _run,
    "measure": _measure,
    "report": _report,
    "execute": _execute,
}
