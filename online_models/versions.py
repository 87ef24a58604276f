"""A published model: the control record that goes to every processor.

Version 0 is the untrained model; a trainer counts up from 1. The arrays are those of the compiled
form only, so a processor needs no River state to score.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from numpy.typing import NDArray

from features.errors import RecordError
from online_models import catalog
from online_models.compiled import CompiledModel
from online_models.framing import (
    PackedArray,
    digest,
    pack_arrays,
    unpack_arrays,
)
from online_models.options import NO_OPTIONS, ModelOptions

SCHEMA_VERSION = 1


class ModelVersion(Struct, frozen=True, kw_only=True, tag_field="kind", tag="model_version"):
    """One version of one model; `checksum` is over everything else, in hexadecimal.

    `ts_ms` is the event time of publication, `learned_count` how many examples went into it.
    """

    name: str
    pipeline: str
    version: int
    ts_ms: int
    inputs: tuple[str, ...]
    arrays: dict[str, PackedArray]
    learned_count: int = 0
    schema_version: int = SCHEMA_VERSION
    checksum: str = ""

    def to_compiled(self) -> CompiledModel:
        """Return the model that scores; raises RecordError where the record does not hold one."""
        check_version(self)
        return catalog.find(self.pipeline).compiled.from_arrays(
            self.inputs, unpack_arrays(self.arrays)
        )


def _checksum(version: ModelVersion) -> str:
    return digest(msgspec.msgpack.encode(msgspec.structs.replace(version, checksum=""))).hex()


def make_version(
    *,
    name: str,
    pipeline: str,
    version: int,
    ts_ms: int,
    inputs: Sequence[str],
    arrays: Mapping[str, NDArray[Any]],
    learned_count: int = 0,
) -> ModelVersion:
    """Return the record of a compiled form's arrays, with its checksum."""
    bare = ModelVersion(
        name=name,
        pipeline=pipeline,
        version=version,
        ts_ms=ts_ms,
        inputs=tuple(inputs),
        arrays=pack_arrays(arrays),
        learned_count=learned_count,
    )
    return msgspec.structs.replace(bare, checksum=_checksum(bare))


def untrained_version(
    name: str, pipeline: str, inputs: Sequence[str], options: ModelOptions = NO_OPTIONS
) -> ModelVersion:
    """Return version 0: the model that has seen nothing. Raises RecordError as `catalog.build`."""
    model = catalog.learning(pipeline, inputs, options).compiled()
    return make_version(
        name=name, pipeline=pipeline, version=0, ts_ms=0, inputs=inputs, arrays=model.to_arrays()
    )


def check_version(version: ModelVersion) -> None:
    """Raise RecordError for another schema version or a checksum that does not fit."""
    if version.schema_version != SCHEMA_VERSION:
        raise RecordError("$.schema_version", f"{SCHEMA_VERSION}", f"{version.schema_version}")
    found = _checksum(version)
    if found != version.checksum:
        raise RecordError("$.checksum", found, version.checksum or "nothing")


def encode_version(version: ModelVersion) -> bytes:
    """Return the record as msgpack."""
    return msgspec.msgpack.encode(version)


def decode_version(data: bytes) -> ModelVersion:
    """Return the record of `encode_version`; raises RecordError for anything else."""
    try:
        version = msgspec.msgpack.decode(data, type=ModelVersion)
    except msgspec.MsgspecError as error:
        raise RecordError("$", "a model version in msgpack", str(error)) from error
    check_version(version)
    return version
