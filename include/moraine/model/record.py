"""`dataclass` as the standard library has it, but quick to define.

The standard library writes and compiles up to seven methods anew for every class. A short run has some eighty classes,
and a tenth of its time went there. Here a class has only its `__init__` from the standard library; the rest is shared.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls: type | None = None, /, *, frozen: bool = False, eq: bool = True, **options: Any) -> Any:
        """As `dataclasses.dataclass`; `order` and `unsafe_hash` are for that one."""

        def define(cls: type) -> type:
            shared: dict[str, Any] = {"__repr__": _repr}
            if eq:
                shared |= {"__eq__": _equal, "__hash__": _hash if frozen else None}
            if frozen:
                shared |= {"__setattr__": _set_once, "__delattr__": _keep}
            own = {name: method for name, method in shared.items() if name not in vars(cls)}
            made = dataclasses.dataclass(cls, repr=False, eq=False, **options)
            for name, method in own.items():
                setattr(made, name, method)
            return made

        return define if cls is None else define(cls)


def _values(record: Any) -> tuple[Any, ...]:
    return tuple([getattr(record, item.name) for item in dataclasses.fields(record) if item.compare])


def _repr(self: Any) -> str:
    shown = [f"{item.name}={getattr(self, item.name)!r}" for item in dataclasses.fields(self) if item.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _equal(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _set_once(self: Any, name: str, value: object) -> None:
    """What `__init__` and unpickling do, once."""
    values = getattr(self, "__dict__", None)
    if hasattr(self, name) if values is None else name in values:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _keep(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
