"""The page of a drill: one HTML file that needs nothing else, to look at and to print. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any

from moraine.model.units import format_duration, format_size
from moraine.model.window import parse_time

Json = dict[str, Any]

_CSS = Path(__file__).with_suffix(".css")
_LONGEST = 600  # characters of a value


def drill_page(report: Json, docs: dict[str, str]) -> str:
    """The page.

    Args:
        report: as it is kept.
        docs: whole pages of other makers, by name; they are embedded, closed off from this one.
    """
    word = "passed" if report["passed"] else "failed"
    title = f"Drill of {report['policy']} {word}"
    parts = [
        _head(report),
        _tiles(report),
        _reasons(report),
        _pace(report),
        _not_proven(report),
        _checks(report),
        _application(report),
        _facts(report),
        _docs(docs),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>\n{_CSS.read_text('utf-8')}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(report: Json) -> str:
    badge = "good" if report["passed"] else "bad"
    word = "Passed" if report["passed"] else "Failed"
    much = "The whole" if report["whole"] else "A sample"
    how = {
        "latest": "the newest one",
        "random": f"drawn from all {report['candidates']} snapshots",
        "stratified": f"drawn by age and size from all {report['candidates']} snapshots",
        "named": "asked for by name",
    }[report["pick"] if report["candidates"] > 1 else "latest"]
    age = parse_time(report["started_at"]) - parse_time(report["window_end"])
    return (
        f'<div class="head"><div><h1>Restore drill of {escape(report["policy"])}</h1>'
        f'<p class="soft">{_when(report["started_at"])}, in {_took(report["seconds"])}. {much} of snapshot '
        f"<code>{escape(report['snapshot'])}</code>, {how}. It stands for the time up to "
        f"{_when(report['window_end'])}, {_took(max(age.total_seconds(), 0))} before the drill.</p></div>"
        f'<span class="badge {badge}">{word}</span></div>'
    )


def _tiles(report: Json) -> str:
    checks, measured, planned = report["checks"], report["measured"], report["planned"]
    good = sum(check["passed"] for check in checks)
    sound = {True: "sound", False: "in quarantine", None: "nothing shown"}[report["sound"]]
    tiles = [(f"{good} of {len(checks)}", "checks hold"), (sound, "the snapshot")]
    if planned:
        tiles.append((f"{planned['files']:,} files", f"{format_size(planned['bytes'])} to restore"))
    if measured:
        tiles.append((f"{format_size(measured['bytes_per_second'])}/s", f"{measured['files_per_second']:,.0f} files/s"))
    inner = "".join(f'<div class="tile"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in tiles)
    return f'<div class="tiles">{inner}</div>'


def _reasons(report: Json) -> str:
    if not report["reasons"]:
        return ""
    again = len(report["again"])
    fate = f"<p>The next backup reads {again:,} file{'s' * (again != 1)} again.</p>" if again else ""
    return f'<div class="reasons"><b>Why it failed</b>{_list(report["reasons"])}{fate}</div>'


def _pace(report: Json) -> str:
    measured = report["measured"]
    if not measured:
        return ""
    forecast, rto = measured["forecast_seconds"], measured["rto_seconds"]
    span = max(forecast, rto or 0) * 1.15
    over = ' class="over"' if measured["within"] is False else ""
    near = ' class="near"' if rto is not None and rto < span / 4 else ""  # its label would stick out on the left
    mark = (
        f'<em{near} style="left:{100 * rto / span:.2f}%"><span>objective: {_took(rto)}</span></em>'
        if rto is not None
        else ""
    )
    bar = (
        f'<div class="scale"><i{over} style="width:{max(100 * forecast / span, 0.4):.2f}%"></i>{mark}'
        f"<u>a full restore: {_took(forecast)}</u></div>"
    )
    text = (
        f"{measured['files']:,} files ({format_size(measured['bytes'])}) came back in {_took(measured['seconds'])} "
        f"from <code>{escape(measured['store'])}</code>. The whole snapshot has {measured['full_files']:,} files "
        f"({format_size(measured['full_bytes'])})."
    )
    return f"<h2>Time to recover</h2><div class='card'><p>{text}</p>{bar}{_assumed(measured['assumptions'])}</div>"


def _assumed(assumptions: list[str]) -> str:
    return f'<p class="soft">Assumed:</p><div class="soft">{_list(assumptions)}</div>'


def _not_proven(report: Json) -> str:
    if not report["not_proven"]:
        return ""
    return f'<h2>What this does not prove</h2><div class="card">{_list(report["not_proven"])}</div>'


def _checks(report: Json) -> str:
    subjects: dict[str, list[Json]] = {}
    for check in report["checks"]:
        subjects.setdefault(check["subject"], []).append(check)
    blocks = [_subject(name, checks) for name, checks in subjects.items()]
    return f"<h2>Checks</h2>{''.join(blocks)}" if blocks else ""


def _subject(name: str, checks: list[Json]) -> str:
    good = sum(check["passed"] for check in checks)
    first = sorted(checks, key=lambda check: bool(check["passed"]))
    rows = "".join(_row(check) for check in first)
    state = "" if good == len(checks) and name == "manifest" else " open"
    mood = "good" if good == len(checks) else "bad"
    return (
        f'<details class="card"{state}><summary><span>{escape(name)}</span>'
        f'<span class="badge {mood}">{good} of {len(checks)}</span></summary><table><thead><tr><th></th><th>check</th>'
        f"<th>expected</th><th>found</th></tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _row(check: Json) -> str:
    mark = '<td class="mark ok">✓ holds</td>' if check["passed"] else '<td class="mark no">✗ fails</td>'
    detail = f'<br><span class="soft">{_value(check["detail"])}</span>' if check["detail"] else ""
    return (
        f"<tr>{mark}<td>{_value(check['name'])}{detail}</td>"
        f'<td class="value num">{_value(check["expected"])}</td>'
        f'<td class="value num">{_value(check["found"])}</td></tr>'
    )


def _application(report: Json) -> str:
    answer = report["answered"]
    if not answer:
        return ""
    ended = "was killed at its time limit" if answer["code"] is None else f"ended with {answer['code']}"
    said = f"<pre><code>{_value(answer['said'].strip())}</code></pre>" if answer["said"].strip() else ""
    return (
        f"<h2>Application</h2><div class='card'><p><code>{escape(answer['what'])}</code> {ended} after "
        f"{_took(answer['seconds'])}.</p>{said}</div>"
    )


def _facts(report: Json) -> str:
    again = f"./moraine drill {report['policy']} --snapshot {report['snapshot']} --seed {report['seed']}"
    again += " --whole" if report["whole"] else " --sample"
    facts = {
        "drill": report["drill"],
        "again": again,
        "seed": str(report["seed"]),
        "repository": report["store"],
        "policy digest": report["policy_digest"][:16],
        "versions": ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
    }
    rows = "".join(f"<dt>{name}</dt><dd><code>{escape(value)}</code></dd>" for name, value in facts.items())
    return f'<h2>To hold it again</h2><div class="card"><dl>{rows}</dl></div>'


def _docs(docs: dict[str, str]) -> str:
    frames = [
        f'<details class="card"><summary>{escape(name)}</summary>'
        f'<iframe sandbox="allow-scripts" title="{escape(name, quote=True)}" '
        f'srcdoc="{escape(page, quote=True)}"></iframe>'
        "</details>"
        for name, page in docs.items()
    ]
    return f"<h2>Great Expectations data docs</h2>{''.join(frames)}" if frames else ""


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_value(item)}</li>' for item in items)}</ul>"


def _value(value: Any) -> str:
    text = (
        "–" if value is None else f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    )
    return escape(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")


def _when(text: str) -> str:
    return f"{parse_time(text):%Y-%m-%d %H:%M} UTC"


def _took(seconds: float) -> str:
    if 0 < seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"
    return format_duration(timedelta(seconds=round(seconds)))
