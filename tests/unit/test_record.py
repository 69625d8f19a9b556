"""`moraine.model.record.dataclass` against the standard library's, which it stands in for."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, asdict, field, fields, replace
from typing import Any

import pytest

from moraine.model import record
from moraine.model.record import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """Two numbers."""

    x: int
    y: int = 2
    seen: list[int] = field(default_factory=list, compare=False, repr=False)


@dataclass(frozen=True)
class Open:
    """With a dictionary, and defaults that stand on the class."""

    name: str = "none"

    def __repr__(self) -> str:
        return f"<{self.name}>"


@dataclass(slots=True)
class Counter:
    """One that changes."""

    count: int = 0

    def __post_init__(self) -> None:
        self.count += 1


@dataclass(frozen=True, slots=True, eq=False)
class Itself:
    """Equal to nothing else."""

    x: int = 1


def both(**options: Any) -> tuple[Any, Any]:
    """The same class made here and by the standard library."""

    def define() -> type:
        class Both:
            a: int
            b: str = "b"
            c: tuple[int, ...] = field(default=(), compare=False)

        return Both

    return record.dataclass(**options)(define()), dataclasses.dataclass(**options)(define())


@pytest.mark.parametrize("options", [{}, {"frozen": True}, {"slots": True}, {"frozen": True, "slots": True}])
def test_it_does_what_the_standard_library_does(options: dict[str, Any]) -> None:
    ours, theirs = both(**options)
    assert repr(ours(1, c=(3,))).split(".")[-1] == repr(theirs(1, c=(3,))).split(".")[-1]
    for cls in (ours, theirs):
        assert cls(1) == cls(1, c=(9,)) != cls(2)
        assert cls(1) != (1, "b", ())
        assert asdict(cls(1)) == {"a": 1, "b": "b", "c": ()}
        assert replace(cls(1), b="x") == cls(1, "x")
        assert [item.name for item in fields(cls)] == ["a", "b", "c"]
        with pytest.raises(TypeError):
            cls()
    assert ours(1) != theirs(1)
    if options.get("frozen"):
        assert hash(ours(1)) == hash(theirs(1)) == hash(ours(1, c=(5,)))
    else:
        with pytest.raises(TypeError, match="unhashable"):
            hash(ours(1))


@pytest.mark.parametrize("frozen", [Point(1), Open(), Itself()])
def test_what_is_frozen_stays_as_it_is(frozen: Any) -> None:
    name = fields(frozen)[0].name
    before = getattr(frozen, name)
    with pytest.raises(FrozenInstanceError, match=name):
        setattr(frozen, name, 5)
    with pytest.raises(FrozenInstanceError, match=name):
        delattr(frozen, name)
    assert getattr(frozen, name) == before


@pytest.mark.parametrize("made", [Point(1), Open(), Counter()])
def test_no_further_attribute_is_taken(made: Any) -> None:
    with pytest.raises(AttributeError):
        made.z = 3


def test_frozen_and_other_records_do_not_mix() -> None:
    class Below(Point):
        pass

    with pytest.raises(FrozenInstanceError):
        Below(1).x = 2  # type: ignore[misc]
    for frozen, above in ((False, Point), (True, Counter)):
        with pytest.raises(TypeError, match="frozen both, or neither"):
            record.dataclass(frozen=frozen)(type("Mixed", (above,), {}))
    with pytest.raises(TypeError, match="order"):
        record.dataclass(order=True)


def test_a_class_that_says_what_equals_it_can_be_hashed() -> None:
    @dataclass(frozen=True)
    class Near:
        x: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Near) and abs(self.x - other.x) < 2

    assert Near(1) == Near(2) != Near(4)
    assert hash(Near(1)) == hash(Near(1))


def test_what_a_class_says_itself_stays() -> None:
    assert repr(Open("me")) == "<me>"
    assert Counter(4).count == 5
    assert Itself() != Itself() and len({Itself(), Itself()}) == 2


@pytest.mark.parametrize("value", [Point(1, 5, [3]), Open("name"), Counter(3)])
def test_copies_and_pickles_are_equal(value: Any) -> None:
    assert copy.copy(value) == copy.deepcopy(value) == value
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(value, protocol)) == value
    assert copy.deepcopy(Point(1, 5, [3])).seen == [3]
