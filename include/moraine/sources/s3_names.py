"""Keys of a bucket as paths of a tree, and back. Pure: knows no bucket and no row.

A key may be any text of up to 1,024 bytes; a tree cannot hold an empty name, `.`, `..`, a NUL, a name longer than 255
bytes, or a file and a directory of one name. A key is split at each `/`, and a part that a tree cannot hold is written
with a mark. Only a `%` at the beginning of a name is special; all other names stay as they are.

| part of a key | name in the tree |
|---|---|
| empty, as in `a//b`, `/a` and `a/` | `%empty` |
| `.`, `..` | `%dot`, `%dotdot` |
| begins with `%` | `%` before it: `%x` is `%%x` |
| holds a NUL | `%0` before it, `%` and NUL in it as `%25` and `%00` |
| last, where others go on below: `a` beside `a/b` | `%=` before it |
| longer than 255 bytes | directories `%+` with 253 bytes each, then `%-` with the rest |

Every path made here says which key it came from, so two keys never share a path.
"""

from __future__ import annotations

from moraine.errors import SourceError
from moraine.model.entry import display_path

LONGEST = 255  # bytes in a name
_PIECE = LONGEST - 2
_WORDS = {b"": b"%empty", b".": b"%dot", b"..": b"%dotdot"}
_PARTS = {word: part for part, word in _WORDS.items()}


def names_of(part: bytes, *, also_prefix: bool = False) -> tuple[bytes, ...]:
    """The names that stand for one part of a key: one, or several nested ones for a long part.

    Args:
        part: what stands between two slashes of the key, or before the first or after the last one.
        also_prefix: the part ends the key, and other keys go on with a slash after it.
    """
    name = _WORDS.get(part, part)
    if b"\0" in part:
        name = b"%0" + part.replace(b"%", b"%25").replace(b"\0", b"%00")
    elif part.startswith(b"%"):
        name = b"%" + part
    if also_prefix:
        name = b"%=" + name
    if len(name) <= LONGEST:
        return (name,)
    pieces = [name[at : at + _PIECE] for at in range(0, len(name), _PIECE)]
    return (*(b"%+" + piece for piece in pieces[:-1]), b"%-" + pieces[-1])


def path_of(key: bytes, *, also_prefix: bool = False) -> bytes:
    """The path of an object."""
    *above, last = key.split(b"/")
    names = [name for part in above for name in names_of(part)]
    return b"/".join([*names, *names_of(last, also_prefix=also_prefix)])


def directory_of(prefix: bytes) -> bytes:
    """The path of the directory that a prefix, empty or with a slash at its end, stands for."""
    return b"/".join([name for part in prefix.split(b"/")[:-1] for name in names_of(part)])


def key_of(path: bytes) -> bytes:
    """The key that a path stands for.

    Raises:
        SourceError: `path_of` makes no such path.
    """
    parts: list[bytes] = []
    long = b""
    for name in path.split(b"/"):
        if name.startswith(b"%+"):
            long += name[2:]
            continue
        if name.startswith(b"%-"):
            name, long = long + name[2:], b""
        parts.append(_part(name))
    key = b"/".join(parts)
    if path not in (path_of(key), path_of(key, also_prefix=True)):
        raise SourceError(f"{display_path(path)} stands for no key", hint="`%` begins the names that are marked")
    return key


def _part(name: bytes) -> bytes:
    name = name.removeprefix(b"%=")
    if name.startswith(b"%0"):
        return name[2:].replace(b"%00", b"\0").replace(b"%25", b"%")
    return _PARTS.get(name, name[1:] if name.startswith(b"%%") else name)
