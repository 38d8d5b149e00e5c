"""Counts the bytes that a compiled TPU program moves, from its text.

Synopsis:

  traffic = count(compiled.as_text())
  traffic.moved, traffic.memory         # by one chip
  traffic.exchanged                     # with other chips

`moved` is what every instruction reads and writes, wherever that lies, as XLA's own cost analysis
has it, with three corrections: the body of a loop counts as often as it runs, an asynchronous copy
as one read and one write (XLA counts its operand three times), and what moves nothing (buffers that
are allocated, parts that are put side by side) as nothing. `memory` is the part of it that goes
through the chip's main memory (HBM): layouts marked S(1) lie in the memory on the chip (VMEM).
`exchanged` is what a chip gets from collectives: the size of their results.
"""

import functools
import math
import re
from typing import NamedTuple

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2} | {
    kind: size for size in (4, 8) for kind in (f"f{8 * size}", f"s{8 * size}", f"u{8 * size}")
}
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
# What moves nothing, or is counted where it starts.
_FREE = {
    "parameter",
    "get-tuple-element",
    "tuple",
    "bitcast",
    "constant",
    "after-all",
    "iota",
    "copy-done",
    "slice-done",
    "opt-barrier",
}
_FREE_TARGETS = ("AllocateBuffer", "ConcatBitcast")
_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "reduce-scatter",
    "collective-permute",
    "collective-broadcast",
)


class Traffic(NamedTuple):
    """Bytes."""

    moved: int
    memory: int
    exchanged: int = 0

    def __add__(self, other: object) -> "Traffic":
        assert isinstance(other, Traffic)
        return Traffic(*(a + b for a, b in zip(self, other, strict=True)))


class _Instruction(NamedTuple):
    result: str
    opcode: str
    operands: tuple[str, ...]
    text: str


def count(text: str) -> Traffic:
    """Counts the traffic of a program's text (`compiled.as_text()`)."""
    computations, entry = _read(text)

    @functools.cache
    def count_computation(name: str) -> Traffic:
        total = Traffic(0, 0)
        instructions = computations[name]
        for instruction in instructions.values():
            total += count_instruction(instruction, instructions)
        return total

    def count_instruction(instruction: _Instruction, others: dict[str, _Instruction]) -> Traffic:
        if instruction.opcode in _FREE or any(t in instruction.text for t in _FREE_TARGETS):
            return Traffic(0, 0)
        if instruction.opcode == "while":
            # A loop whose count the compiler does not know would be counted wrongly.
            trips = _TRIPS.search(instruction.text)
            if trips is None:
                raise ValueError(f"A loop without a known count: {instruction.text[:200]}")
            body = count_computation(_called(instruction.text, "body"))
            return Traffic(*(int(trips[1]) * part for part in body))
        if instruction.opcode == "call":
            return count_computation(_called(instruction.text, "to_apply"))
        if instruction.opcode in ("copy-start", "slice-start"):
            # The result is (to, from, context) of a copy, ((from), to, context) of a slice.
            first, second = _arrays(instruction.result)[:2]
            target, origin = (first, second)
            if instruction.opcode == "slice-start":
                target, origin = second, first
            size = target.moved
            return Traffic(2 * size, size * bool(target.memory) + size * bool(origin.memory))
        if instruction.opcode.startswith(_COLLECTIVES):
            return _count_collective(instruction, others)
        shapes = [instruction.result] + [others[o].result for o in instruction.operands]
        return sum((a for shape in shapes for a in _arrays(shape)), Traffic(0, 0))

    return count_computation(entry)


def _count_collective(instruction: _Instruction, others: dict[str, _Instruction]) -> Traffic:
    """Reads its operands and writes its results, where an asynchronous one starts."""
    if instruction.opcode.endswith("-done"):
        return Traffic(0, 0)
    operands = [a for o in instruction.operands for a in _arrays(others[o].result)]
    results = _arrays(instruction.result)
    if instruction.opcode.endswith("-start") and instruction.opcode != "all-reduce-start":
        results = results[len(operands) : 2 * len(operands)]  # Of (operands, results, contexts).
    total = sum([*operands, *results], Traffic(0, 0))
    return total._replace(exchanged=sum(a.moved for a in results))


def _read(text: str) -> tuple[dict[str, dict[str, _Instruction]], str]:
    """(instructions of each computation by name, name of the one that runs)."""
    computations: dict[str, dict[str, _Instruction]] = {}
    entry = ""
    current: dict[str, _Instruction] = {}
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = computations[header[2]] = {}
            entry = header[2] if header[1] else entry
            continue
        found = _INSTRUCTION.match(line)
        if found:
            name, result, opcode, rest = found.groups()
            operands = tuple(re.findall(r"%([\w.\-]+)", rest[: _end_of_operands(rest)]))
            current[name] = _Instruction(result, opcode, operands, line)
    return computations, entry


def _end_of_operands(rest: str) -> int:
    depth = 1
    for i, character in enumerate(rest):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return i
    raise ValueError(f"No end of the operands: {rest[:200]}")


def _called(text: str, attribute: str) -> str:
    found = re.search(rf"\b{attribute}=%?([\w.\-]+)", text)
    assert found is not None, text
    return found[1]


def _arrays(shape: str) -> list[Traffic]:
    """The size of every array in a shape."""
    arrays = []
    for kind, sides, layout in _ARRAY.findall(shape):
        if kind in _BYTES:
            size = _BYTES[kind] * math.prod(int(side) for side in sides.split(",") if side)
            arrays.append(Traffic(size, 0 if "S(" in layout else size))
    return arrays
