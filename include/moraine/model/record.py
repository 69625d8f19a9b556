"""`dataclass` as the standard library has it, but quick to define.

The standard library writes and compiles up to seven methods anew for every class. A short run has some eighty classes,
and a tenth of its time went there. Here a class has only its `__init__` from the standard library; the rest is shared.
"""

from __future__ import annotations

import dataclasses
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(
        cls: type | None = None, /, *, frozen: bool = False, eq: bool = True, slots: bool = False, kw_only: bool = False
    ) -> Any:
        """As `dataclasses.dataclass`; for what is ordered, or made by the thousand, take that one."""

        def define(cls: type) -> type:
            above = [base for base in cls.__mro__[1:] if dataclasses.is_dataclass(base)]
            if any(frozen != (base.__setattr__ is _set_once) for base in above):
                raise TypeError(f"{cls.__name__} and what it inherits from have to be frozen both, or neither")
            shared: dict[str, Any] = {"__repr__": _repr}
            if eq:
                shared |= {"__eq__": _equal, "__hash__": _hash if frozen else None}
            if frozen:
                shared |= {"__setattr__": _set_once, "__delattr__": _keep}
            # A class that says only what equals it has __hash__ already: None.
            shared = {name: method for name, method in shared.items() if vars(cls).get(name) is None}
            made = dataclasses.dataclass(cls, repr=False, eq=False, slots=slots, kw_only=kw_only)
            for name, method in shared.items():
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
    """What `__init__` and unpickling do, once for each field."""
    if name not in self.__dataclass_fields__ or _is_set(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _is_set(record: Any, name: str) -> bool:
    slot = isinstance(getattr(type(record), name, None), MemberDescriptorType)  # else it may be a field's default
    return hasattr(record, name) if slot else name in vars(record)


def _keep(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
