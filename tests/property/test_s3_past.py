"""What a versioned bucket held at an instant, against a bucket that keeps every state it was ever in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moraine.sources import s3_sorted, s3_versions
from moraine.sources.s3_client import Listed, S3Bucket
from moraine.sources.s3_sorted import SortedObjects, batches_of, sort_objects
from moraine.sources.s3_versions import Past, list_versions

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = ["a", "a-b", "a/", "a/b", "b", "é/x", "\U0001f600"]
STEPS = st.lists(st.tuples(st.sampled_from(KEYS), st.booleans(), st.integers(0, 2)), max_size=30)


def instant(tick: int) -> datetime:
    return BEGIN + timedelta(seconds=tick)


class Model:
    """A versioned bucket: every put and delete adds one version. Remembers what it held before each tick."""

    def __init__(self, steps: list[tuple[str, bool, int]]) -> None:
        self.versions: dict[str, list[tuple[datetime, str | None]]] = {}
        self.states: dict[int, dict[str, str]] = {}
        now, held = 0, dict[str, str]()
        for number, (key, deletes, wait) in enumerate(steps):
            for tick in range(now, now + wait):
                self.states[tick + 1] = dict(held)
            now += wait
            self.versions.setdefault(key, []).insert(0, (instant(now), None if deletes else f"v{number}"))
            held.pop(key, None)
            if not deletes:
                held[key] = f"v{number}"
        self.states |= {0: {}, now + 1: held}

    def rows(self) -> list[tuple[str, datetime, str | None, bool]]:
        ordered = sorted(self.versions.items(), key=lambda item: item[0].encode())
        return [(key, at, version, not i) for key, found in ordered for i, (at, version) in enumerate(found)]


class Server:
    """The client of a server that lists a model, a page at a time; the events are those of botocore."""

    def __init__(self, model: Model, page: int, *, grouped: str = "") -> None:
        self._rows, self._page, self._grouped = model.rows(), page, grouped
        self.meta = self.events = self
        self.requests = 0

    def register(self, event: str, handler: Any, **more: Any) -> None:
        self._handler = handler

    def list_object_versions(self, Prefix: str, KeyMarker: str = "", **more: Any) -> dict[str, Any]:
        self.requests += 1
        start = int(KeyMarker or 0)
        rows = [row for row in self._rows if row[0].startswith(Prefix)]
        page = rows[start : start + self._page]
        if self._grouped:
            page = sorted(page, key=lambda row: row[2] is None, reverse=self._grouped == "markers first")
        names = ["DeleteMarker" if version is None else "Version" for _, _, version, _ in page]
        answer: dict[str, Any] = {"Versions": [], "DeleteMarkers": []}
        for key, at, version, latest in page:
            item = {"Key": key, "LastModified": at, "IsLatest": latest, "VersionId": version or "m"}
            answer["DeleteMarkers" if version is None else "Versions"].append(
                item if version is None else item | {"Size": 1, "ETag": f'"{version}"'}
            )
        body = "".join(f"<{name}><Key>k</Key></{name}>" for name in names)
        self._handler(response_dict={"body": body.encode()}, customized_response_dict=answer)
        more_left = start + self._page < len(rows)
        return answer | {
            "IsTruncated": more_left,
            "NextKeyMarker": str(start + self._page),
            "NextVersionIdMarker": "x",
        }


def held(server: Server, at: datetime, prefix: str = "") -> dict[str, str]:
    bucket = S3Bucket(server, "bucket")
    objects = list(Past(at).objects(list_versions(bucket, prefix)))
    found = {item.key: str(item.version) for item in objects}
    assert len(found) == len(objects)
    return found


@settings(deadline=None)
@given(STEPS, st.integers(1, 7), st.sampled_from(["", "a", "a/"]))
@example([("a", False, 0), ("a", True, 0), ("a", False, 0)], 1, "")
@example([("a", False, 0), ("a", True, 0)], 5, "")
def test_a_window_holds_what_was_there_just_before_its_end(
    steps: list[tuple[str, bool, int]], page: int, prefix: str
) -> None:
    model = Model(steps)
    server = Server(model, page)
    for tick, state in model.states.items():
        wanted = {key: version for key, version in state.items() if key.startswith(prefix)}
        assert held(server, instant(tick), prefix) == wanted, f"as of tick {tick}"


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.booleans(), st.just(1)), max_size=30),
    st.sampled_from(["versions first", "markers first"]),
)
def test_a_server_that_lists_markers_apart_is_understood_by_its_times(
    steps: list[tuple[str, bool, int]], grouped: str
) -> None:
    model = Model(steps)
    for tick, state in model.states.items():
        assert held(Server(model, 1000, grouped=grouped), instant(tick)) == state


def test_the_end_of_a_window_is_not_in_it() -> None:
    model = Model([("a", False, 5)])
    server = Server(model, 10)
    assert held(server, instant(5)) == {}
    assert held(server, instant(5) + timedelta(microseconds=1)) == {"a": "v0"}


def test_the_servers_order_counts_and_not_the_times() -> None:
    # A multipart upload carries the time when it began, though it replaced what came in between.
    model = Model([("a", False, 3)])
    model.versions["a"].insert(0, (instant(1), "upload"))
    assert held(Server(model, 10), instant(9)) == {"a": "upload"}


def test_what_cannot_be_known_is_counted() -> None:
    at = instant(10)

    def version(key: str, tick: int, *, deleted: bool = False, unversioned: bool = False) -> s3_versions.Version:
        found = None if deleted else Listed(key, 1, 0, "e", None, "v")
        return s3_versions.Version(key, instant(tick), True, found, unversioned)

    past = Past(at)
    story = [
        version("cut", 12, deleted=True),  # something must have been there to be deleted, and no longer is
        version("known", 12, deleted=True),
        version("known", 3),
        version("new", 12),
        version("overwritten", 12, unversioned=True),  # may have replaced another one without a trace
        version("same", 3, unversioned=True),
    ]
    assert [item.key for item in past.objects(story)] == ["known", "same"]
    assert past.untold == 2


def test_a_server_that_does_not_tell_when_versions_were_written_is_noticed() -> None:
    def story(wait: int) -> Past:
        past = Past(instant(100))
        rows = [(f"k{n}", tick, at == 0) for n in range(5) for at, tick in enumerate((50, 50 - wait, 10))]
        list(past.objects(s3_versions.Version(key, instant(tick), latest, None) for key, tick, latest in rows))
        return past

    assert not story(1).misdated
    assert story(0).misdated


@contextmanager
def on_disk(objects: list[Listed], folder: Path, run: int, batch: int) -> Iterator[SortedObjects]:
    folder.mkdir()
    with patch.object(s3_sorted, "_RUN_ROWS", run), patch.object(s3_sorted, "_BATCH_ROWS", batch):
        yield SortedObjects(sort_objects(batches_of(objects), folder))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text(st.sampled_from("a-/.é\U0001f600"), min_size=1, max_size=4), unique=True, max_size=20),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(["", "a", "a/", "é"]),
)
def test_a_list_on_disk_answers_like_a_bucket(
    tmp_path_factory: Any, keys: list[str], run: int, batch: int, page: int, prefix: str
) -> None:
    objects = [Listed(key, number, number, f"e{number}", None, f"v{number}") for number, key in enumerate(keys)]
    by_key = {item.key: item for item in objects}
    wanted = sorted((key for key in keys if key.startswith(prefix)), key=str.encode)
    folded = dict.fromkeys(key if (cut := key.find("/", len(prefix))) < 0 else key[: cut + 1] for key in wanted)
    with on_disk(objects, tmp_path_factory.mktemp("list") / "run", run, batch) as listing:
        for delimiter, names in (("", wanted), ("/", list(folded))):
            token: str | None = ""
            found: list[str] = []
            while token is not None:
                answer = listing.page(prefix, delimiter=delimiter, token=token, most=page)
                assert answer.objects == [by_key[item.key] for item in answer.objects]
                assert 0 < len(answer.objects) + len(answer.prefixes) <= page or not names
                found += sorted([item.key for item in answer.objects] + answer.prefixes, key=str.encode)
                token = answer.token
            assert found == names


def test_a_list_on_disk_keeps_the_newest_of_each_key_and_no_deleted_one(tmp_path: Path) -> None:
    def row(key: str, at: int, version: str, *, latest: bool = False, deleted: bool = False) -> dict[str, Any]:
        return {"key": key.encode(), "size": 1, "at": at, "etag": "e", "version": version} | {
            "archived": None,
            "latest": latest,
            "deleted": deleted,
        }

    rows = [
        row("b", 2000, "b2", latest=True, deleted=True),
        row("a", 1000, "a1"),
        row("c", 1000, "c1"),
        row("a", 3000, "a3", latest=True),
        row("b", 1000, "b1"),
        row("c", 1000, "c2", latest=True),
        row("a", 2000, "a2", deleted=True),
    ]
    with patch.object(s3_sorted, "_RUN_ROWS", 3):
        batches = pa.Table.from_pylist(rows, s3_sorted.OBJECTS).to_batches(2)
        listing = SortedObjects(sort_objects(batches, tmp_path))
    assert [(item.key, item.version, item.modified) for item in listing.page("").objects] == [
        ("a", "a3", 3),
        ("c", "c2", 1),
    ]
