"""Keys as paths: every key has its own, every path leads back, and no path is one that a tree cannot hold."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moraine.errors import SourceError
from moraine.sources.s3_names import LONGEST, key_of, path_of

_PIECES = ["", ".", "..", "/", "//", "%", "%%", "%=", "%+", "%-", "%0", "%00", "%25", "%empty", "%dot", "a", "\0", "\n"]
_ODD = st.lists(st.one_of(st.sampled_from(_PIECES), st.text(max_size=3), st.just("é" * 200)), max_size=9).map("".join)
KEYS = st.one_of(_ODD, st.text(max_size=40)).map(lambda text: text.encode("utf-8", "replace")[:1024]).filter(bool)


@settings(deadline=None)
@given(KEYS, st.booleans())
@example(b"/" * 1024, False)
@example(b"x" * 1024, True)
@example(b"\0" * 1024, True)
@example(b"x" * 255, True)
@example(b"%" * 506 + b"..", False)
def test_a_path_leads_back_and_a_tree_can_hold_it(key: bytes, also_prefix: bool) -> None:
    path = path_of(key, also_prefix=also_prefix)
    assert key_of(path) == key
    for name in path.split(b"/"):
        assert name not in (b"", b".", b"..")
        assert b"\0" not in name
        assert len(name) <= LONGEST


@settings(deadline=None)
@given(st.sets(KEYS, min_size=1, max_size=12))
@example({b"a", b"a/b", b"a/", b"a//b", b"%=a", b"/a", b"./a", b"%dot/a", b"%empty/a"})
@example({b"x" * 300, b"x" * 300 + b"/y", b"%+" + b"x" * 253 + b"/%-" + b"x" * 47})
def test_keys_of_one_bucket_make_one_tree(keys: set[bytes]) -> None:
    prefixes = {key[:at] for key in keys for at in range(len(key)) if key[at : at + 1] == b"/"}
    paths = {key: path_of(key, also_prefix=key in prefixes) for key in keys}
    assert len(set(paths.values())) == len(keys)
    directories = {path.rsplit(b"/", count)[0] for path in paths.values() for count in range(1, path.count(b"/") + 1)}
    assert not directories & set(paths.values()), "a file and a directory of one name"


def test_ordinary_keys_stay_as_they_are() -> None:
    for key in (b"a", b"year=2026/part-0.parquet", b"100%/a b", "ä/ö".encode(), b"...", b".hidden", b"a\nb"):
        assert path_of(key) == key


@pytest.mark.parametrize("path", [b"%odd", b"%+abc", b"%-abc", b"a/%=%=b", b"%0ab", b"a//b", b"a/%", b".."])
def test_a_path_from_elsewhere_is_refused(path: bytes) -> None:
    with pytest.raises(SourceError, match="stands for no key"):
        key_of(path)
