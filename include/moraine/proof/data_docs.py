"""Great Expectations' data docs of one suite's result, as one HTML file that needs nothing else.

The library's own pages fetch styles and scripts from the network; here its renderer makes the page, everything remote
is taken out, and a small style sheet stands in. What a script would unfold is shown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_WHOLE = "|".join(rf"<{tag}\b.*?</{tag}>" for tag in ("script", "style", "nav", "footer"))
_REMOTE = re.compile(rf"(?is){_WHOLE}|<link\b[^>]*>|<img\b[^>]*>")
_OUTSIDE = re.compile(r"(?i)\b(href|src)=\"(?!#)[^\"]*\"")
_STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3, h4, h5 { line-height: 1.25; margin: 1.2em 0 .4em; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { border: 1px solid #d0d7de; padding: .35rem .6rem; text-align: left; vertical-align: top; }
th { background: #f3f5f7; } pre, code { white-space: pre-wrap; overflow-wrap: anywhere; }
.collapse, .dropdown-menu { display: block; } ul { padding-left: 1.2rem; }
i.text-success::before { content: "\\2713  passed"; color: #1a7f37; font-style: normal; }
i.text-danger::before { content: "\\2717  failed"; color: #b42318; font-style: normal; }
.col-lg-2, .modal { display: none; }
@media print { body { max-width: none; margin: 0; } tr { break-inside: avoid; } }
</style>"""


def write_docs(folder: Path, result: dict[str, Any], *, name: str, number: int) -> Path:
    """Write the page of one result (`Judge.to_dict`); its path.

    Args:
        folder: where to; made when it is not there.
        result: what the suite said.
        name: what was held against it; with its number and the suite's name it names the file.
        number: of the page among those of the same name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}-{number:02}-{result['suite_name']}").strip("-.")
    path = folder / f"{plain}.html"
    path.write_text(render(result, name), "utf-8")
    return path


def render(result: dict[str, Any], name: str) -> str:
    """The page."""
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    document = ValidationResultsPageRenderer(run_info_at_end=True).render(_validation(result, name))
    view: Any = DefaultJinjaPageView()
    page: str = view.render(document, show_how_to_buttons=False)
    page = _OUTSIDE.sub("", _REMOTE.sub("", page))
    return page.replace("</head>", f"{_STYLE}</head>", 1)


def _validation(result: dict[str, Any], name: str) -> Any:
    """The result as the library's own object: what `Judge` folded from many windows."""
    from great_expectations.core import ExpectationSuiteValidationResult

    meta = {"great_expectations_version": result["meta"]["great_expectations_version"], "run_id": {"run_name": name}}
    meta["batch_spec"] = {"data_asset_name": name}
    return ExpectationSuiteValidationResult(
        success=bool(result["success"]),
        results=[_one(item) for item in result["results"]],
        suite_name=result["suite_name"],
        statistics=result["statistics"],
        suite_parameters={},
        meta=meta,
    )


def _one(item: dict[str, Any]) -> Any:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    config, found = item["expectation_config"], dict(item["result"])
    rows, values = found.pop("partial_unexpected_index_list", []), found.get("partial_unexpected_list", [])
    count = found["element_count"]
    found |= {
        "unexpected_percent": 100 * found["unexpected_count"] / count if count else 0.0,
        "unexpected_list": values,
        # The page shows values alone; which file or row they belong to is what a reader needs.
        "partial_unexpected_list": rows or values,
    }
    return ExpectationValidationResult(
        success=item["success"],
        expectation_config=ExpectationConfiguration(
            type=config["type"], kwargs=config["kwargs"], description=config.get("description"), meta={}
        ),
        result=found,
        exception_info={"exception_traceback": None} | item["exception_info"],
        meta={},
    )
