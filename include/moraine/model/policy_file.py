"""Policy files: YAML in, a `Policy` or one readable sentence per mistake out, with the line it stands in.

Owns YAML (no duplicate keys, one document). Knows no key of a policy by name except `keep`, whose mistakes are
`UnsafeRetention`, and the paths that count from the file's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from moraine.errors import ConfigError, UnsafeRetention
from moraine.model.policy_fields import Policy
from moraine.model.policy_mirror import with_state
from moraine.model.policy_mistakes import Loc, mistakes
from moraine.model.record import dataclass

_PATHS = {
    ("source",): ("path", "exclude_files"),
    ("repository",): ("url", "passphrase_file"),
    ("destination",): ("url", "passphrase_file"),
    ("drill", "place"): ("path",),
    ("drill", "credentials"): ("passphrase_file",),
}
_BOOL, _TEXT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:str"


@dataclass(frozen=True, slots=True)
class BrokenPolicy:
    """A policy file that cannot be used, and why."""

    path: Path
    error: ConfigError


def load_policy(path: str | Path) -> Policy:
    """Read one policy file. Raises ConfigError or UnsafeRetention naming file, line and key."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no policy file {path}", path=str(path)) from error
    except OSError as error:
        raise ConfigError(f"cannot read policy file {path}: {error.strerror}", path=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"policy file {path} is not UTF-8 text", path=str(path)) from error
    return parse_policy(text, str(path), folder=path.resolve().parent)


def load_policies(folder: str | Path) -> tuple[list[Policy], list[BrokenPolicy]]:
    """All policies of a folder by file name, and the files that are broken; one never hides the others.

    Of several files that claim one policy name, the one named like the policy wins, else the first; the others are
    reported as broken.
    """
    policies: dict[str, tuple[Path, Policy]] = {}
    broken: list[BrokenPolicy] = []
    files = (p for p in Path(folder).glob("*.y*ml") if p.suffix in (".yaml", ".yml") and not p.name.startswith("."))
    for path in sorted(files):
        try:
            policy = load_policy(path)
        except ConfigError as error:
            broken.append(BrokenPolicy(path, error))
            continue
        loser, winner = path, policies.get(policy.policy, (None, None))[0]
        if winner is None or (path.stem == policy.policy and winner.stem != policy.policy):
            policies[policy.policy] = (path, policy)
            loser, winner = (winner or path), path
        if loser != winner:
            broken.append(BrokenPolicy(loser, _claimed_twice(policy.policy, loser, winner)))
    return [policy for _, policy in policies.values()], broken


def _claimed_twice(name: str, loser: Path, winner: Path) -> ConfigError:
    return ConfigError(
        f"{loser}: the policy name '{name}' is already used by {winner.name}", hint="names must differ", path=str(loser)
    )


def parse_policy(text: str, name: str = "policy", *, folder: Path | None = None) -> Policy:
    """The policy in a YAML text; `name` stands for it in messages, relative paths count from `folder`."""
    try:
        data, lines = _read_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{where}: not valid YAML: {what}", path=name) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}", path=name) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: a policy file is a mapping of keys", hint="`policy schema` lists them", path=name)
    if folder is not None:
        _resolve_paths(data, folder)
    return validate_policy(data, name, lines)


def validate_policy(data: dict[str, Any], name: str = "policy", lines: dict[Loc, int] | None = None) -> Policy:
    """A policy out of plain data. Raises ConfigError with all mistakes in `context["problems"]`."""
    lines = lines or {}
    try:
        return _reader().validate_python(data)
    except UnsafeRetention as error:
        raise UnsafeRetention(f"{_place(('keep',), name, lines)}: {error}", hint=error.hint, path=name) from error
    except ValidationError as error:
        problems = [f"{_place(loc, name, lines)}: {text}" for loc, text in mistakes(error)]
        unsafe = any(item["loc"][:1] == ("keep",) for item in error.errors())
        more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise (UnsafeRetention if unsafe else ConfigError)(
            problems[0] + more, hint="`policy schema` lists all keys", path=name, problems=problems
        ) from error


@cache
def _reader() -> TypeAdapter[Policy]:
    return TypeAdapter(Annotated[Policy, BeforeValidator(with_state)])


def policy_schema() -> dict[str, Any]:
    """JSON schema of policy files, for editors; exported to `include/policies/schema.json`."""
    schema = TypeAdapter(Policy).json_schema()
    # In a file, a policy names a repository or a destination.
    schema["required"] = [name for name in schema["required"] if name != "repository"]
    schema["oneOf"] = [{"required": ["repository"]}, {"required": ["destination"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Moraine policy"}


def _place(loc: Loc, name: str, lines: dict[Loc, int]) -> str:
    while loc and loc not in lines:
        loc = loc[:-1]
    return f"{name}:{lines[loc]}" if loc in lines else name


def _read_yaml(text: str) -> tuple[Any, dict[Loc, int]]:
    loader = yaml.CSafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_walk(node, ()))
        return loader.construct_document(node), lines
    finally:
        loader.dispose()


def _walk(node: yaml.Node, loc: Loc) -> Iterator[tuple[Loc, int]]:
    """Line numbers of all keys, which become text; a key that stands twice in one mapping is refused."""
    if len(loc) > 20:
        raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield (*loc, number), item.start_mark.line + 1
            yield from _walk(item, (*loc, number))
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                problem = f"the key '{name}' stands twice, first in line {seen[name]}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen[name] = line
            if key.tag == _BOOL:  # YAML 1.1 takes the plain key `on` for true
                key.tag = _TEXT
            yield (*loc, name), line
            yield from _walk(value, (*loc, name))


def _resolve_paths(data: dict[str, Any], folder: Path) -> None:
    for parts, keys in _PATHS.items():
        section: Any = data
        for part in parts:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict):
            section |= {key: _resolved(section[key], folder) for key in keys if key in section}


def _resolved(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_resolved(item, folder) for item in value]
    is_path = isinstance(value, str) and value and "://" not in value and not value.startswith("memory:")
    return os.path.normpath(folder / value) if is_path else value
