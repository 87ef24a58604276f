"""From the graph to bytecode: each node once, in a register that is freed after its last use."""

import heapq
from collections.abc import Sequence

import numpy as np

from features.expressions.graph import Graph, Node
from features.kernels.opcodes import Opcode
from features.plan import Program

_OF_SLOTS = (Opcode.SLOT, Opcode.DISTANCE)
# The calendar is not among them: it needs the time alone.
_OF_RECORD = (
    Opcode.CELL,
    Opcode.CELL_MISSING,
    Opcode.DISTANCE,
    Opcode.EXTERNAL,
    Opcode.HASH_EQ,
    Opcode.HASH_NE,
    Opcode.HASH_EQ_CELL,
    Opcode.HASH_NE_CELL,
    Opcode.HASH_IN,
    Opcode.HASH_NOT_IN,
)
_NO_SLOTS: frozenset[int] = frozenset()


class _Registers:
    """Hands out the lowest free register, so that the file stays small and warm in the cache."""

    def __init__(self) -> None:
        self.count = 0
        self._free: list[int] = []

    def take(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        self.count += 1
        return self.count - 1

    def release(self, register: int) -> None:
        heapq.heappush(self._free, register)


class _Pools:
    """The constants of a program; equal runs of constants are stored once."""

    def __init__(self) -> None:
        self.floats: list[float] = []
        self.ints: list[int] = []
        self._float_places: dict[tuple[float, ...], int] = {}
        self._int_places: dict[tuple[int, ...], int] = {}

    def place_floats(self, run: tuple[float, ...]) -> int:
        place = self._float_places.setdefault(run, len(self.floats))
        if place == len(self.floats):
            self.floats.extend(run)
        return place

    def place_ints(self, run: tuple[int, ...]) -> int:
        place = self._int_places.setdefault(run, len(self.ints))
        if place == len(self.ints):
            self.ints.extend(run)
        return place


def emit(graph: Graph, roots: Sequence[tuple[str, int]]) -> Program:
    """Return the program that computes the roots: (output name, node) in the order of its rows."""
    needed = _reachable(graph, [node for _, node in roots])
    rows: dict[int, list[int]] = {}
    for row, (_, root) in enumerate(roots):
        rows.setdefault(root, []).append(row)
    uses = dict.fromkeys(needed, 0)
    for number in needed:
        for read in set(graph.nodes[number].inputs):
            uses[read] += 1
    registers, pools = _Registers(), _Pools()
    held: dict[int, int] = {}
    code: list[tuple[int, int, int, int]] = []
    for number in needed:
        node = graph.nodes[number]
        a, b = _operands(node, held, pools)
        # Taken before the operands' registers are free: an instruction that writes over its own
        # operand does not vectorise.
        held[number] = registers.take()
        for read in sorted(set(node.inputs)):
            uses[read] -= 1
            if uses[read] == 0:
                registers.release(held.pop(read))
        code.append((int(node.opcode), held[number], a, b))
        code.extend((int(Opcode.STORE), row, held[number], 0) for row in rows.get(number, ()))
        if uses[number] == 0:
            registers.release(held.pop(number))
    slots, of_record = _behind(graph, needed)
    return Program(
        code=np.array(code, dtype=np.int64).reshape(len(code), 4),
        floats=np.array(pools.floats, dtype=np.float64),
        ints=np.array(pools.ints, dtype=np.int64),
        register_count=registers.count,
        outputs={name: row for row, (name, _) in enumerate(roots)},
        reads={name: tuple(sorted(slots[root])) for name, root in roots},
        of_record=frozenset(name for name, root in roots if root in of_record),
    )


def _behind(graph: Graph, needed: list[int]) -> tuple[dict[int, frozenset[int]], set[int]]:
    """Return the slots that each node depends on, and the nodes that depend on the record."""
    slots: dict[int, frozenset[int]] = {}
    of_record: set[int] = set()
    for number in needed:
        node = graph.nodes[number]
        own = frozenset(node.rows) if node.opcode in _OF_SLOTS else _NO_SLOTS
        slots[number] = own.union(*(slots[read] for read in node.inputs))
        if node.opcode in _OF_RECORD or not of_record.isdisjoint(node.inputs):
            of_record.add(number)
    return slots, of_record


def _operands(node: Node, held: dict[int, int], pools: _Pools) -> tuple[int, int]:
    operands = [held[read] for read in node.inputs]
    if node.opcode is Opcode.SELECT:
        return operands[0], pools.place_ints((operands[1], operands[2]))
    operands.extend(node.rows)
    if node.floats:
        operands.append(pools.place_floats(node.floats))
    if node.ints:
        operands.append(pools.place_ints(node.ints))
    a, b, *_ = (*operands, 0, 0)
    return a, b


def _reachable(graph: Graph, roots: list[int]) -> list[int]:
    """Return the nodes that the roots depend on, in an order in which inputs come first."""
    found: set[int] = set()
    pending = list(roots)
    while pending:
        number = pending.pop()
        if number not in found:
            found.add(number)
            pending.extend(graph.nodes[number].inputs)
    return sorted(found)
