"""Where the arrays of an engine lie: one table that is handed to a kernel in place of forty arrays.

Numba takes a Python array apart in 0.2 to 0.5 us: for a batch of one record that was as much work
as all its windows. The table holds addresses, so it must be written anew wherever an array may
have moved: `resize` moves it.
"""

from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

from features.kernels.layout import Layout, Scratch, State, Table
from features.kernels.stored import Form

_make_array: Any = arrayobj.make_array
_populate_array: Any = arrayobj.populate_array
_pack_array: Any = cgutils.pack_array
_named_tuple: Any = types.NamedTuple
_PARTS: tuple[Any, ...] = (Layout, Form, Scratch, State)
_WIDTH = 3  # columns of a book: address, rows, columns; or a plain number


def fields_of(kind: type) -> Iterator[tuple[str, np.dtype[Any] | None, int]]:
    """Give name, dtype and dimensions of the fields of a named tuple; None and 0 for a number.

    TypeError where a field is neither a number nor says how many dimensions it has.
    """
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if hint is int:
            yield name, None, 0
        elif get_origin(hint) is Annotated:
            array, dimensions = get_args(hint)
            yield name, np.dtype(get_args(get_args(array)[1])[0]), dimensions
        else:
            raise TypeError(f"{kind.__name__}.{name}: expected int, Table, Vector or the like")


def write_book(layout: Layout, form: Form, scratch: Scratch, state: State) -> Table:
    """Return the book of an engine's arrays, one row for each; they must outlive it.

    ValueError for an array that isn't what its field says.
    """
    rows = []
    for part in (layout, form, scratch, state):
        for name, dtype, dimensions in fields_of(type(part)):
            value = getattr(part, name)
            if dtype is None:
                rows.append((value, 0, 0))
                continue
            if value.dtype != dtype or value.ndim != dimensions or not value.flags.c_contiguous:
                raise ValueError(
                    f"{type(part).__name__}.{name}: expected {dimensions} dimensions of {dtype}, "
                    f"got {value.ndim} of {value.dtype}; in one piece, row by row"
                )
            rows.append((value.ctypes.data, *value.shape, *[1] * (2 - dimensions)))
    return np.array(rows, dtype=np.int64)


def _reading(typing_context: Any, book: Any, kind: Any) -> Any:
    """Read one of the named tuples off a book."""
    earlier = _PARTS[: _PARTS.index(kind.instance_class)]
    first = sum(len(part._fields) for part in earlier)
    fields = list(fields_of(kind.instance_class))
    kinds: list[Any] = [
        types.int64 if dtype is None else types.Array(from_dtype(dtype), dimensions, "C")
        for _, dtype, dimensions in fields
    ]
    result = _named_tuple(kinds, kind.instance_class)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        table = _make_array(signature.args[0])(context, builder, arguments[0])

        def number(row: int, column: int) -> Any:
            place = context.get_constant(types.intp, _WIDTH * (first + row) + column)
            return builder.load(builder.gep(table.data, [place]))

        values = []
        for row, kind_of in enumerate(kinds):
            if kind_of is types.int64:
                values.append(number(row, 0))
                continue
            array = _make_array(kind_of)(context, builder)
            size = context.get_constant(types.intp, kind_of.dtype.bitwidth // 8)
            shape = [number(row, 1 + axis) for axis in range(kind_of.ndim)]
            strides = [builder.mul(length, size) for length in shape[1:]] + [size]
            _populate_array(
                array,
                data=builder.inttoptr(number(row, 0), array.data.type),
                shape=_pack_array(builder, shape),
                strides=_pack_array(builder, strides),
                itemsize=size,
                meminfo=None,
            )
            values.append(array._getvalue())
        return context.make_tuple(builder, result, values)

    return result(book, kind), generate


read_book: Any = intrinsic(_reading)
