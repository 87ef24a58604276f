"""A published model: the control record that goes to every processor.

Version 0 is the untrained model; a trainer counts up from 1. The arrays are those of the compiled
form only, so a processor needs no River state to score.

The checksum is over everything but the arrays' bytes, which have digests of their own. So a version
is sealed again with a calibration, or with challengers, at the cost of its outline; and an array
that learning did not change costs its publication nothing. No array of a version is ever changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from features.errors import RecordError
from online_models import catalog
from online_models.calibration import Calibration
from online_models.compiled import CompiledModel
from online_models.framing import NOTHING, SealedArray, digest, seal_arrays, unpack_arrays
from online_models.options import NO_OPTIONS, ModelOptions

SCHEMA_VERSION = 3


class ModelVersion(Struct, frozen=True, kw_only=True, tag_field="kind", tag="model_version"):
    """One version of one model; `checksum` is over everything else, in hexadecimal: see above.

    `ts_ms` is the event time of publication, `learned_count` how many examples went into it.
    `contestant` is the name of the champion that decides; `challengers` are versions of their own,
    scored in its shadow. An empty `calibration` leaves scores as they are.
    """

    name: str
    pipeline: str
    version: int
    ts_ms: int
    inputs: tuple[str, ...]
    arrays: dict[str, SealedArray]
    learned_count: int = 0
    contestant: str = ""
    calibration: dict[str, SealedArray] = {}
    challengers: "tuple[ModelVersion, ...]" = ()
    schema_version: int = SCHEMA_VERSION
    checksum: str = ""

    def to_compiled(self) -> CompiledModel:
        """Return the model that scores; raises RecordError where the record does not hold one.

        What came as bytes had its arrays checked by `decode_version`.
        """
        check_outline(self)
        return catalog.find(self.pipeline).compiled.from_arrays(
            self.inputs, unpack_arrays(self.arrays)
        )

    def to_calibration(self) -> Calibration | None:
        """Return what makes probabilities of its scores, None where they stay as they are."""
        if not self.calibration:
            return None
        return Calibration.from_arrays(unpack_arrays(self.calibration))


def _checksum(version: ModelVersion) -> str:
    return digest(msgspec.msgpack.encode(_outline(version, ""))).hex()


def _outline(version: ModelVersion, checksum: str) -> ModelVersion:
    """Return the version with the digests of its arrays in place of their bytes."""
    return replace(
        version,
        arrays={name: replace(array, data=b"") for name, array in version.arrays.items()},
        calibration={n: replace(array, data=b"") for n, array in version.calibration.items()},
        challengers=tuple(_outline(other, other.checksum) for other in version.challengers),
        checksum=checksum,
    )


def make_version(
    *,
    name: str,
    pipeline: str,
    version: int,
    ts_ms: int,
    inputs: Sequence[str],
    arrays: Mapping[str, NDArray[Any]],
    learned_count: int = 0,
    before: Mapping[str, SealedArray] = NOTHING,
) -> ModelVersion:
    """Return the record of a compiled form's arrays, with its checksum.

    `before` are the arrays of the version before: those that are the same are taken over.
    """
    bare = ModelVersion(
        name=name,
        pipeline=pipeline,
        version=version,
        ts_ms=ts_ms,
        inputs=tuple(inputs),
        arrays=seal_arrays(arrays, before),
        learned_count=learned_count,
    )
    return _sealed(bare)


def _sealed(version: ModelVersion) -> ModelVersion:
    return replace(version, checksum=_checksum(version))


def with_calibration(
    version: ModelVersion, contestant: str, calibration: Calibration | None
) -> ModelVersion:
    """Return the version as that of a contestant, with its calibration."""
    arrays = seal_arrays(calibration.to_arrays()) if calibration else {}
    return _sealed(replace(version, contestant=contestant, calibration=arrays))


def with_challengers(champion: ModelVersion, challengers: Sequence[ModelVersion]) -> ModelVersion:
    """Return the champion's version with those that are scored in its shadow."""
    return _sealed(replace(champion, challengers=tuple(challengers)))


def untrained_version(
    name: str, pipeline: str, inputs: Sequence[str], options: ModelOptions = NO_OPTIONS
) -> ModelVersion:
    """Return version 0: the model that has seen nothing. Raises RecordError as `catalog.build`."""
    model = catalog.learning(pipeline, inputs, options).compiled()
    return make_version(
        name=name, pipeline=pipeline, version=0, ts_ms=0, inputs=inputs, arrays=model.to_arrays()
    )


def check_version(version: ModelVersion) -> None:
    """Raise RecordError for another schema version, or where a checksum or digest does not fit."""
    check_outline(version)
    for own in (version, *version.challengers):
        for name, array in (own.arrays | own.calibration).items():
            found = digest(array.data)
            if found != array.digest:
                where = f"$.arrays.{name}.digest"
                raise RecordError(where, found.hex(), array.digest.hex() or "nothing")


def check_outline(version: ModelVersion) -> None:
    """Raise RecordError for another schema version or a checksum that does not fit.

    The bytes of arrays are not looked at.
    """
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
