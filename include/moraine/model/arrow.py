"""Keeps pyarrow from importing pandas behind our back.

The first `pyarrow.array` of a process looks whether pandas is there by importing it: 0.7 s and 100 MB for nothing, as
no data path here uses it. Import this module before making arrays. Frames and series still convert, since pyarrow
looks again when it meets one; only lists of pandas' own scalars are no longer understood.

It also loads dateutil, and takes whatever is raised meanwhile for "not there", interrupts too. So that is loaded here,
where an interrupt is not lost.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import pyarrow as pa


class _NoPandas:
    """An import finder that finds no pandas."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Refuse pandas; leave everything else to the other finders."""
        del path, target
        if name == "pandas":
            raise ModuleNotFoundError("pyarrow is to start without pandas", name=name)


def _look_once_without_pandas() -> None:
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0], pa.int8())  # the Python half looks
        pa.array([0])  # and so does the C++ half, once types are inferred
    finally:
        sys.meta_path.remove(finder)


with suppress(ImportError):
    import_module("dateutil.relativedelta")
_look_once_without_pandas()
