"""Counts the bytes that a compiled TPU program moves, from the program's text.

Synopsis:

  traffic = count(compiled.as_text())
  traffic.moved, traffic.memory         # bytes of one chip
  traffic.exchanged                     # bytes received from other chips

`moved` counts the bytes that every instruction reads and writes, in any memory, like XLA's own cost
analysis, with three corrections. The body of a loop counts once per iteration, and an array stacked
over the iterations counts one slice per iteration. An asynchronous copy counts as one read and one
write (XLA counts its operand three times). Instructions that move nothing (allocations, buffers
placed side by side) count as 0.

`memory` is the part of `moved` that goes through the chip's main memory (HBM): layouts marked S(1)
lie in on-chip memory (VMEM). `exchanged` is the size of the results of collectives.
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
# Upper limit of a loop that counts from 0, in the loop's condition.
_LIMIT = re.compile(r"s32\[\]\S* constant\((\d+)\)")
# Operations that move nothing, or are counted at their start.
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
    """Bytes moved, bytes through main memory, and bytes exchanged; see above."""

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
    def count_computation(name: str, turns: int) -> Traffic:
        total = Traffic(0, 0)
        instructions = computations[name]
        for instruction in instructions.values():
            total += count_instruction(instruction, instructions, turns)
        return total

    def count_instruction(
        instruction: _Instruction, others: dict[str, _Instruction], turns: int
    ) -> Traffic:
        if instruction.opcode in _FREE or any(t in instruction.text for t in _FREE_TARGETS):
            return Traffic(0, 0)
        if instruction.opcode == "while":
            condition = computations[_called(instruction.text, "condition")].values()
            limits = [int(n) for i in condition for n in _LIMIT.findall(i.text)]
            if len(limits) != 1:
                raise ValueError(f"A loop of unknown length: {instruction.text[:200]}")
            body = count_computation(_called(instruction.text, "body"), limits[0])
            return Traffic(*(limits[0] * part for part in body))
        if instruction.opcode == "call":
            return count_computation(_called(instruction.text, "to_apply"), turns)
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
        return sum((a for shape in shapes for a in _arrays(shape, turns)), Traffic(0, 0))

    return count_computation(entry, 1)


def _count_collective(instruction: _Instruction, others: dict[str, _Instruction]) -> Traffic:
    """Counts a collective's operands as read and its results as written, both at its start."""
    if instruction.opcode.endswith("-done"):
        return Traffic(0, 0)
    operands = [a for o in instruction.operands for a in _arrays(others[o].result)]
    results = _arrays(instruction.result)
    if instruction.opcode.endswith("-start") and instruction.opcode != "all-reduce-start":
        results = results[len(operands) : 2 * len(operands)]  # (operands, results, contexts)
    total = sum([*operands, *results], Traffic(0, 0))
    return total._replace(exchanged=sum(a.moved for a in results))


def _read(text: str) -> tuple[dict[str, dict[str, _Instruction]], str]:
    """Parses a program: (instructions of each computation by name, name of the entry)."""
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


def _arrays(shape: str, turns: int = 1) -> list[Traffic]:
    """Returns the size of every array in a shape; for arrays stacked over a loop, of one slice."""
    arrays = []
    for kind, text, layout in _ARRAY.findall(shape):
        if kind in _BYTES:
            sides = [int(side) for side in text.split(",") if side]
            if len(sides) > 1 and sides[0] == turns:
                sides = sides[1:]
            size = _BYTES[kind] * math.prod(sides)
            arrays.append(Traffic(size, 0 if "S(" in layout else size))
    return arrays
