"""From a policy to the source it names."""

from __future__ import annotations

from moraine.model.policy import Policy
from moraine.sources.excludes import ExcludeRules
from moraine.sources.posix import PosixSource


def open_source(policy: Policy) -> PosixSource:
    """The source of a policy; nothing is looked at yet. Raises ConfigError for a bad pattern or pattern file."""
    source = policy.source
    excludes = ExcludeRules.build(
        source.exclude,
        iexclude=source.iexclude,
        files=source.exclude_files,
        if_present=source.exclude_if_present,
        caches=source.exclude_caches,
        larger_than=source.exclude_larger_than,
    )
    return PosixSource(
        source.path, excludes, one_file_system=source.one_file_system, must_be_mount=source.must_be_mount
    )
