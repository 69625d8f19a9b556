"""What a bench run found, as a table, a plot and a page."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from statistics import median
from typing import NamedTuple

COLOURS = {"moraine, passphrase": "#999999", "restic": "#4878a8", "borg": "#c48a3a", "kopia": "#6a9a5b"}
BAR, GAP, LEFT, WIDTH = 11, 10, 190, 820


class Sample(NamedTuple):
    """One stage by one tool: seconds, MiB, and the repository afterwards."""

    work: str
    stage: str
    tool: str
    wall: float
    cpu: float
    peak: float  # MiB
    stored: float  # MB in the repository
    added: float  # MB of them by this stage
    objects: int

    def line(self) -> str:
        """For whoever watches."""
        times = f"wall {self.wall:7.2f} s  cpu {self.cpu:7.2f} s  peak {self.peak:5.0f} MiB"
        return f"{self.work:15} {self.stage:10} {self.tool:8} {times}  {self.stored:8.1f} MB in {self.objects}"


def table(samples: list[Sample]) -> str:
    """Medians of every stage; for the others also how many times Moraine's it took."""
    lines = [
        "| work | stage | tool | wall s | CPU s | wall × | CPU × | peak MiB | repository MB | objects |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (work, stage), tools in grouped(samples).items():
        own = tools["moraine"]
        for tool, one in tools.items():
            ratios = f"{one.wall / own.wall:.1f} | {one.cpu / own.cpu:.1f}" if tool != "moraine" else " | "
            lines.append(
                f"| {work} | {stage} | {tool} | {one.wall:.2f} | {one.cpu:.2f} | {ratios} | {one.peak:.0f} | "
                f"{one.stored:.1f} | {one.objects} |"
            )
    return "\n".join(lines)


def growth(samples: list[Sample]) -> str:
    """What each night has added to the repository, in kB."""
    stages = grouped(samples)
    tools = list(dict.fromkeys(tool for found in stages.values() for tool in found))
    lines = [f"| work | night | {' | '.join(tools)} |", f"|---|---|{'--:|' * len(tools)}"]
    for work in dict.fromkeys(work for work, _ in stages):
        for stage in ("unchanged", "night"):
            added = [f"{1000 * stages[work, stage][tool].added:,.0f}" for tool in tools]
            lines.append(f"| {work} | {'changed' if stage == 'night' else stage} | {' | '.join(added)} |")
    return "\n".join(lines)


def grouped(samples: list[Sample]) -> dict[tuple[str, str], dict[str, Sample]]:
    """The median sample of every work, stage and tool."""
    groups: dict[tuple[str, str], dict[str, list[Sample]]] = {}
    for sample in samples:
        groups.setdefault((sample.work, sample.stage), {}).setdefault(sample.tool, []).append(sample)
    return {
        key: {
            tool: middle(found)
            for tool, found in sorted(tools.items(), key=lambda item: (item[0] != "moraine", item[0]))
        }
        for key, tools in groups.items()
    }


def middle(samples: list[Sample]) -> Sample:
    """The medians of some samples of one thing."""
    numbers = [median(values) for values in list(zip(*samples, strict=True))[3:]]
    return Sample(*samples[0][:3], *numbers[:5], int(numbers[5]))


def write_page(
    page: Path, samples: list[Sample], tools: list[str], *, scale: float, rounds: int, repeats: int, command: list[str]
) -> None:
    """The page and, beside it, the plot. What stands on the page from its second heading on is kept."""
    _, heading, written = (page.read_text() if page.exists() else "").partition("\n## ")
    picture = page.parent / "images" / f"{page.stem.lower()}.svg"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(plot(samples))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release().partition('-')[0]}"
    text = f"""# Performance

Measured by `./moraine bench {" ".join(command)}` on {datetime.now(UTC):%Y-%m-%d}: {machine},
Python {platform.python_version()}; rounds: {rounds}, at {scale:g} of the full work, medians. Every number is of a whole
process from start to exit; all tools encrypt, and every restore was compared with the tree. Each tool did each stage
{1 + repeats} times in a row from the same repository, once the machine was idle; the first time does not count.

{"; ".join(tools)}.

![How many times Moraine's wall time the others take]({picture.relative_to(page.parent)})

**wall ×** and **CPU ×** are the other tool's seconds divided by Moraine's: above 1, Moraine needs less.

{table(samples)}

What each night adds to the repository, in kB. The changed night of the one large file puts 1,000,003 bytes in front of
it.

{growth(samples)}
"""
    page.write_text(text + heading + written)


def plot(samples: list[Sample]) -> str:
    """Bars of wall time, the others' divided by Moraine's, as SVG."""
    rows: list[tuple[str, str, float]] = []
    for (work, stage), tools in grouped(samples).items():
        own = tools["moraine"]
        rows += [(f"{work}, {stage}", tool, one.wall / own.wall) for tool, one in tools.items() if tool != "moraine"]
    most = max((ratio for *_, ratio in rows), default=1)
    scale = (WIDTH - LEFT - 60) / max(most, 1)
    parts: list[str] = []
    y, last = 34, ""
    for label, tool, ratio in rows:
        if label != last:
            y += GAP
            parts.append(f'<text x="{LEFT - 8}" y="{y + BAR - 1}" text-anchor="end">{escape(label)}</text>')
            last = label
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{ratio * scale:.1f}" height="{BAR - 1}" fill="{COLOURS[tool]}"/>'
        )
        parts.append(f'<text x="{LEFT + ratio * scale + 4:.1f}" y="{y + BAR - 1}">{ratio:.1f}</text>')
        y += BAR
    one = LEFT + scale
    parts.append(f'<line x1="{one}" y1="30" x2="{one}" y2="{y + 6}" stroke="#222" stroke-dasharray="3 3"/>')
    parts.append(f'<text x="{one + 3}" y="{y + 16}">1 = Moraine</text>')
    for number, tool in enumerate(sorted({tool for _, tool, _ in rows})):
        x = LEFT + 110 * number
        parts.append(f'<rect x="{x}" y="12" width="10" height="10" fill="{COLOURS[tool]}"/>')
        parts.append(f'<text x="{x + 14}" y="21">{tool}</text>')
    style = 'font-family="system-ui, sans-serif" font-size="11" fill="#222"'
    size = f'width="{WIDTH}" height="{y + 24}" viewBox="0 0 {WIDTH} {y + 24}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}><rect width="100%" height="100%" fill="#fff"/>'
    return f"{head}{''.join(parts)}</svg>\n"
