"""Parquet objects: how tables become stored bytes and come back, encrypted where the repository is.

Encryption is Parquet's own (modular encryption, AES-GCM, one key per object derived from the metadata key, the object
key as AAD prefix), so a shard copied to another key does not open. Digests in the referring object guard the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import moraine.model.arrow  # noqa: F401  (first: it keeps pandas out)
from moraine.errors import DamagedObject
from moraine.model import compute as pc
from moraine.repository.documents import digest
from moraine.repository.keys import Keyring

LOCATION = pa.schema(
    [
        pa.field("id", pa.binary(32), nullable=False),
        pa.field("pack", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("key", pa.dictionary(pa.int32(), pa.binary()), nullable=False),  # wrapped pack key; empty when plain
        pa.field("offset", pa.uint32(), nullable=False),  # of the frame in the pack
        pa.field("length", pa.uint32(), nullable=False),  # of the frame, header and body
        pa.field("at", pa.uint32(), nullable=False),  # of the chunk in the plain frame
        pa.field("size", pa.uint32(), nullable=False),  # of the chunk
    ]
)

_DICTIONARY = {"dir", "owner", "group", "session", "pack", "key", "reason", "table_shape"}
_PACKED = {
    "size", "mtime", "ctime", "inode", "device", "nlink", "rdev", "mode", "uid", "gid",
    "offset", "length", "at", "shard",
}  # fmt: skip
_ROW_GROUP = 1 << 16


def write_table(table: pa.Table, *, key: str, keyring: Keyring) -> bytes:
    """The stored form of a table."""
    table = compacted(table)
    names = table.schema.names
    encodings = {name: "DELTA_BINARY_PACKED" for name in names if name in _PACKED}
    encodings |= {name: "DELTA_BYTE_ARRAY" for name in names if name == "name"}
    encodings |= {name: "PLAIN" for name in names if name in ("id", "digest")}
    options: dict[str, Any] = {}
    if keyring.encrypted:
        import pyarrow.parquet.encryption as pe

        options["encryption_properties"] = pe.create_encryption_properties(
            footer_key=keyring.parquet_key(key), aad_prefix=key.encode(), store_aad_prefix=False
        )
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=3,
        use_dictionary=[name for name in names if name in _DICTIONARY],
        column_encoding=encodings,
        row_group_size=_ROW_GROUP,
        write_statistics=False,
        **options,
    )
    return bytes(sink.getvalue())


def read_table(
    data: bytes, *, key: str, keyring: Keyring, expect: str | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """The table of stored bytes; `expect` is the digest of the object that refers to it. Raises DamagedObject."""
    if expect is not None and digest(data) != expect:
        raise DamagedObject(f"{key} does not match its digest", hint="run `moraine check`", object=key)
    properties = None
    if keyring.encrypted:
        import pyarrow.parquet.encryption as pe

        properties = pe.create_decryption_properties(footer_key=keyring.parquet_key(key), aad_prefix=key.encode())
    try:
        source = pq.ParquetFile(pa.BufferReader(data), decryption_properties=properties)
        return source.read(columns=list(columns) if columns is not None else None)
    except (OSError, pa.ArrowException) as error:
        raise DamagedObject(f"{key} does not open: {error}", hint="run `moraine check`", object=key) from error


def compacted(table: pa.Table) -> pa.Table:
    """Without dictionary entries that no row uses: a filtered table still has those of the whole it was taken from."""
    table = table.unify_dictionaries()
    for number, field in enumerate(table.schema):
        if not pa.types.is_dictionary(field.type) or not table.num_rows:
            continue
        flat = table.column(number).combine_chunks()
        used = pc.drop_null(pc.unique(flat.indices))
        if len(used) < len(flat.dictionary):
            fewer = pa.DictionaryArray.from_arrays(
                pc.index_in(flat.indices, value_set=used), pc.take(flat.dictionary, used)
            )
            table = table.set_column(number, field, fewer)
    return table
