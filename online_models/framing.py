"""Bytes that leave the process: a frame with kind, schema version and checksum; packed arrays.

Everything stored or sent by this package is msgpack in such a frame, never a pickle: reading a
foreign or damaged blob gives an error that names what is wrong, and runs nothing.
"""

import hashlib
import struct
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.errors import RecordError, nearest_name

MAGIC = b"MRL1"
DIGEST_BYTES = 16
_HEADER = struct.Struct(f"<4s8sH{DIGEST_BYTES}s")  # magic, kind, schema version, digest

# Inputs are features; a magnitude beyond this is a fault upstream, and its square must not overflow
# the scaler's variance, which would never recover.
INPUT_MAX = 1e100

NOTHING: Mapping[str, Any] = {}

T = TypeVar("T", bound=Struct)
FloatArray = NDArray[np.float64]


class PackedArray(Struct, frozen=True):
    """An array as little-endian bytes: `dtype` is `f8` or `i8`, `data` is in C order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class SealedArray(PackedArray, frozen=True):
    """A packed array with the digest of its data: what holds it can be sealed without its bytes."""

    digest: bytes = b""


def digest(payload: bytes) -> bytes:
    """Return the 16-byte BLAKE2b digest (RFC 7693) of `payload`."""
    return hashlib.blake2b(payload, digest_size=DIGEST_BYTES).digest()


def usable(values: FloatArray, missing: float = 0.0) -> FloatArray:
    """Return `values` with `missing` for each that is NaN, infinite or beyond ±`INPUT_MAX`.

    This is what a model learns from and scores.
    """
    return np.where(np.abs(values) <= INPUT_MAX, values, missing)


def pack_array(array: NDArray[Any]) -> PackedArray:
    """Return a float or integer array of any shape as bytes."""
    kind = "f8" if array.dtype.kind == "f" else "i8"
    return PackedArray(kind, array.shape, np.ascontiguousarray(array, f"<{kind}").tobytes())


def seal_arrays(
    arrays: Mapping[str, NDArray[Any]], before: Mapping[str, SealedArray] = NOTHING
) -> dict[str, SealedArray]:
    """Return every array as bytes with their digest; one that is as `before` is that very object.

    A digest takes ten times as long as to see that nothing has changed.
    """
    found = {}
    for name, array in arrays.items():
        packed, last = pack_array(array), before.get(name)
        if last is not None and packed == PackedArray(last.dtype, last.shape, last.data):
            found[name] = last
        else:
            found[name] = SealedArray(packed.dtype, packed.shape, packed.data, digest(packed.data))
    return found


def unpack_array(packed: PackedArray, path: str) -> NDArray[Any]:
    """Return the array; `path` is its place in the record, for errors.

    Raises RecordError where the type is unknown or the bytes do not fill the shape.
    """
    if packed.dtype not in ("f8", "i8"):
        raise RecordError(f"{path}.dtype", "f8 or i8", packed.dtype)
    size_bytes = int(np.prod(packed.shape, dtype=np.int64)) * 8
    if min(packed.shape, default=0) < 0 or len(packed.data) != size_bytes:
        expected = f"{size_bytes} bytes for shape {packed.shape}"
        raise RecordError(f"{path}.data", expected, f"{len(packed.data)} bytes")
    flat = np.frombuffer(packed.data, dtype=f"<{packed.dtype}")
    return flat.reshape(packed.shape).astype(packed.dtype)


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> dict[str, PackedArray]:
    """Return every array as bytes, under the same names and in the same order."""
    return {name: pack_array(array) for name, array in arrays.items()}


def unpack_arrays(packed: Mapping[str, PackedArray]) -> dict[str, NDArray[Any]]:
    """Return the arrays of `pack_arrays`; raises RecordError naming the broken one."""
    return {name: unpack_array(array, f"$.arrays.{name}") for name, array in packed.items()}


def seal(kind: str, schema_version: int, body: Struct) -> bytes:
    """Return `body` as msgpack behind a header; `kind` is at most 8 ASCII characters."""
    payload = msgspec.msgpack.encode(body)
    return _HEADER.pack(MAGIC, kind.encode(), schema_version, digest(payload)) + payload


def unseal(blob: bytes, kind: str, schema_version: int, body_type: type[T], where: str) -> T:
    """Return the body of a frame that `seal` made; `where` names the blob in errors.

    Raises RecordError for foreign bytes, another kind, another schema version, a checksum that
    does not fit, or a body of the wrong shape: the checks run in this order.
    """
    if len(blob) < _HEADER.size or not blob.startswith(MAGIC):
        raise RecordError(where, f"a frame that begins with {MAGIC!r}", f"{blob[:4]!r}")
    _, kind_bytes, found_version, found_digest = _HEADER.unpack_from(blob)
    found_kind = kind_bytes.rstrip(b"\0").decode("ascii", "replace")
    if found_kind != kind:
        raise RecordError(where, f"kind `{kind}`", f"kind `{found_kind}`")
    if found_version != schema_version:
        raise RecordError(where, f"schema version {schema_version}", f"{found_version}")
    payload = blob[_HEADER.size :]
    if digest(payload) != found_digest:
        raise RecordError(where, f"checksum {found_digest.hex()}", digest(payload).hex())
    try:
        return msgspec.msgpack.decode(payload, type=body_type)
    except msgspec.MsgspecError as error:
        raise RecordError(where, f"a {body_type.__name__}", str(error)) from error


def check_inputs(inputs: tuple[str, ...]) -> None:
    """Raise RecordError unless the input names of a model are there and all different."""
    if not inputs:
        raise RecordError("$.inputs", "at least one input", "none")
    if len(set(inputs)) != len(inputs):
        twice = next(name for name in inputs if inputs.count(name) > 1)
        raise RecordError("$.inputs", "names that are all different", f"`{twice}` more than once")


def checked_array(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    shape: tuple[int, ...],
    minimum: float = -np.inf,
) -> FloatArray:
    """Return one array as float64; a length of -1 in `shape` is any length.

    Raises RecordError if it is absent, misshapen, not finite or has a value below `minimum`.
    """
    path = f"$.arrays.{name}"
    if name not in arrays:
        got = f"only {', '.join(arrays) or 'nothing'}"
        raise RecordError(path, f"an array of shape {shape}", got, nearest_name(name, arrays))
    array = np.asarray(arrays[name], dtype=np.float64)
    fits = len(shape) == array.ndim and all(
        wanted in (-1, found) for wanted, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise RecordError(path, f"shape {shape}", f"shape {array.shape}")
    if not np.isfinite(array).all():
        raise RecordError(path, "finite numbers", "NaN or infinity")
    if array.size and array.min() < minimum:
        raise RecordError(path, f"values of {minimum} or more", f"{array.min()}")
    return array


def checked_rows(rows: FloatArray, input_count: int) -> FloatArray:
    """Return rows (n, k) for a kernel; raises ValueError for another number of columns."""
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != input_count:
        raise ValueError(f"rows: expected shape (n, {input_count}), got {rows.shape}")
    if rows.flags.c_contiguous or rows.flags.f_contiguous:
        return rows
    return np.ascontiguousarray(rows)
