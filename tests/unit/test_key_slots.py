"""Key slots and what opens them: passphrases, generated keys, each of them only its own kind."""

from __future__ import annotations

import hashlib
import os
import random
import re
from base64 import b64decode, b64encode
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moraine.errors import ConfigError, DamagedObject, WrongPassphrase
from moraine.repository import key_slots
from moraine.repository.key_slots import generate_key, make_slot, open_slots, read_generated_key
from moraine.repository.keys import Keyring
from moraine.repository.repository import Repository
from moraine.stores.memory import MemoryStore
from night import Clock

KEY = generate_key(random.Random(5).randbytes).encode()
OTHER = generate_key(random.Random(6).randbytes).encode()
TYPO = KEY[:-1] + (b"1" if KEY.endswith(b"0") else b"0")
BROKEN = [
    TYPO,
    KEY[:-1],
    KEY[:40],
    KEY + b"0",
    KEY + b"\n" + OTHER,
    KEY.replace(b"key-1", b"key-2"),
    KEY[:14] + KEY[14:].replace(b"-", b"_"),
    KEY[:-9],
    b"moraine-key-",
    b"Moraine-Key-ring of my grandmother",
    KEY[:20] + b" " + KEY[20:],
]


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(key_slots.SCRYPT, "n", 1 << 4)


@pytest.fixture
def no_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise AssertionError("this is not to be stretched")

    monkeypatch.setattr(hashlib, "scrypt", refuse)


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    return Keyring.create(random.Random(1).randbytes)


def wrap(keyring: Keyring, secret: bytes, slot: str = "S") -> dict[str, Any]:
    where = {"slot": slot, "repository_id": "R"}
    return make_slot(keyring, secret, **where, label="l", created_at="t", entropy=random.Random(2).randbytes)


def opens(slot: dict[str, Any], secret: bytes, repository: str = "R") -> bool:
    try:
        return bool(open_slots([slot], secret, repository))
    except WrongPassphrase:
        return False


# slots


@pytest.mark.parametrize(("secret", "wrong"), [(b"correct horse", b"correct horsf"), (KEY, OTHER)])
def test_slots_give_the_same_keys_back_to_the_right_secret_only(keyring: Keyring, secret: bytes, wrong: bytes) -> None:
    slot = wrap(keyring, secret)
    assert open_slots([slot], secret, "R") == keyring
    assert not opens(slot, wrong)
    assert not opens(slot, secret, "another repository")
    assert not opens({**slot, "slot": "T"}, secret)


def test_a_slot_says_what_opens_it(keyring: Keyring) -> None:
    kinds = [(slot["kind"], slot["kdf"]["name"]) for slot in (wrap(keyring, b"p"), wrap(keyring, KEY))]
    assert kinds == [("passphrase", "scrypt"), ("key", "blake3")]
    assert KEY.split(b"-")[3].decode() not in str(wrap(keyring, KEY))


@pytest.mark.parametrize("secret", [b"correct horse", KEY])
def test_every_flipped_bit_of_salt_and_seal_is_told(keyring: Keyring, secret: bytes) -> None:
    slot = wrap(keyring, secret)
    salt, sealed = b64decode(slot["kdf"]["salt"]), b64decode(slot["sealed"])
    for bit in range(len(salt) * 8):
        assert not opens({**slot, "kdf": slot["kdf"] | {"salt": flipped(salt, bit)}}, secret)
    for bit in range(len(sealed) * 8):
        assert not opens({**slot, "sealed": flipped(sealed, bit)}, secret)


def flipped(data: bytes, bit: int) -> str:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return b64encode(changed).decode()


def test_a_slot_that_asks_for_absurd_work_is_refused(keyring: Keyring) -> None:
    slot = wrap(keyring, b"p")
    slot["kdf"] = {**slot["kdf"], "n": 1 << 30}
    with pytest.raises(DamagedObject, match="scrypt"):
        open_slots([slot], b"p", "R")


def test_an_empty_passphrase_makes_and_opens_nothing(keyring: Keyring) -> None:
    with pytest.raises(ConfigError, match="empty"):
        wrap(keyring, b"")
    with pytest.raises(ConfigError, match="empty"):
        open_slots([wrap(keyring, b"p")], b"", "R")


def test_slots_of_the_other_kind_are_not_tried(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = [wrap(keyring, b"p", "A"), wrap(keyring, KEY, "B"), wrap(keyring, b"q", "C"), wrap(keyring, OTHER, "D")]
    tried: list[str] = []
    real = key_slots._open

    def noted(slot: dict[str, Any], *rest: Any) -> Keyring | None:
        tried.append(slot["slot"])
        return real(slot, *rest)

    monkeypatch.setattr(key_slots, "_open", noted)
    for secret, wanted in ((b"q", "AC"), (OTHER, "BD"), (KEY, "B")):
        tried.clear()
        assert open_slots(slots, secret, "R") == keyring
        assert "".join(tried) == wanted


@pytest.mark.usefixtures("no_scrypt")
def test_a_generated_key_is_never_stretched(keyring: Keyring) -> None:
    assert open_slots([wrap(keyring, KEY)], KEY, "R") == keyring
    assert not opens(wrap(keyring, KEY), OTHER)


def test_slots_of_a_kind_to_come_are_passed_over(keyring: Keyring) -> None:
    unknown = [wrap(keyring, KEY) | {"kind": "recipient"}, wrap(keyring, KEY) | {"kdf": {"name": "of tomorrow"}}]
    assert open_slots([*unknown, wrap(keyring, KEY)], KEY, "R") == keyring


def test_the_error_says_what_the_repository_has(keyring: Keyring) -> None:
    of_key, of_passphrase = wrap(keyring, KEY), wrap(keyring, b"p")
    for slots, secret, text in (
        ([of_key], b"p", "no slot for a passphrase, only for generated keys"),
        ([of_passphrase], KEY, "no slot for a generated key, only for passphrases"),
        ([of_key | {"kind": "recipient"}, of_key], b"p", "only for generated keys and recipients"),
        ([of_key, of_passphrase, of_passphrase], b"q", r"the passphrase opens no key slot of its kind \(2 tried\)"),
        ([of_key, of_passphrase], OTHER, r"the generated key opens no key slot of its kind \(1 tried\)"),
    ):
        with pytest.raises(WrongPassphrase, match=text) as caught:
            open_slots(slots, secret, "R")
        assert caught.value.hint


# the text of a generated key


def test_generated_keys_are_lines_that_differ() -> None:
    made = {generate_key(os.urandom) for _ in range(50)}
    assert len(made) == 50
    assert all(re.fullmatch(r"moraine-key-1-[0-9a-f]{64}-[0-9a-f]{8}", text) for text in made)


@given(st.binary(min_size=32, max_size=32), st.text(" \t\r\n\f\v", max_size=5), st.text(" \t\r\n\f\v", max_size=5))
def test_space_and_case_do_not_count(key: bytes, before: str, after: str) -> None:
    text = generate_key(lambda count: key)
    assert read_generated_key(f"{before}{text}{after}".encode()) == key
    head, digits = text[:14], text[14:]
    assert read_generated_key(f"{before}{head}{digits.upper()}{after}".encode()) == key


@given(st.integers(0, len(KEY) - 1), st.integers(0, 255))
@example(14, ord("x"))
def test_no_changed_character_gives_another_key(place: int, character: int) -> None:
    text = KEY[:place] + bytes([character]) + KEY[place + 1 :]
    try:
        found = read_generated_key(text)
    except ConfigError:
        return
    assert found == (read_generated_key(KEY) if text.lower() == KEY else None)


@given(st.integers(0, len(KEY)), st.integers(0, len(KEY)))
def test_no_part_and_no_doubled_part_gives_a_key(start: int, end: int) -> None:
    text = KEY[:start] + KEY[end:]
    try:
        found = read_generated_key(text)
    except ConfigError:
        return
    assert found == (read_generated_key(KEY) if text == KEY else None)


@given(st.binary(max_size=100))
def test_any_other_secret_is_a_passphrase(secret: bytes) -> None:
    assert secret.strip().lower().startswith(b"moraine-key-") or read_generated_key(secret) is None


@pytest.mark.usefixtures("no_scrypt")
@pytest.mark.parametrize("secret", BROKEN)
def test_what_begins_like_a_key_is_never_taken_for_a_passphrase(keyring: Keyring, secret: bytes) -> None:
    for act in (lambda: wrap(keyring, secret), lambda: open_slots([wrap(keyring, KEY)], secret, "R")):
        with pytest.raises(ConfigError, match="generated key") as caught:
            act()
        assert caught.value.hint
        assert KEY[16:24].decode() not in caught.value.line()  # a log must not learn it


def test_words_about_keys_inside_a_passphrase_are_no_key(keyring: Keyring) -> None:
    for secret in (b"the moraine-key- of all", b"moraine key", b"moraine-keys"):
        assert opens(wrap(keyring, secret), secret)


# in a repository


def test_both_kinds_open_one_repository_and_each_may_go() -> None:
    store, clock = MemoryStore(), Clock()
    made = Repository.create(store, passphrase=KEY, now=clock(), entropy=os.urandom)
    made.add_slot(b"a phrase", label="a person", now=clock())
    assert [slot["kind"] for slot in made.slots] == ["key", "passphrase"]
    for secret in (KEY, b"  " + KEY.upper() + b"\r\n", b"a phrase"):
        assert Repository.open(store, lambda secret=secret: secret, entropy=os.urandom).keyring == made.keyring
    made.remove_slot("first", now=clock())
    with pytest.raises(WrongPassphrase, match="no slot for a generated key"):
        Repository.open(store, lambda: KEY, entropy=os.urandom)
    made.add_slot(OTHER, label="a machine", now=clock())
    made.remove_slot("a person", now=clock())
    with pytest.raises(WrongPassphrase, match="no slot for a passphrase"):
        Repository.open(store, lambda: b"a phrase", entropy=os.urandom)
    assert Repository.open(store, lambda: OTHER, entropy=os.urandom).keyring == made.keyring


def test_a_broken_key_leaves_nothing_behind() -> None:
    store = MemoryStore()
    with pytest.raises(ConfigError, match="checksum"):
        Repository.create(store, passphrase=TYPO, now=Clock()(), entropy=os.urandom)
    assert list(store.list("")) == []
