"""Holds the tensors of a file of weights, whatever its format."""

import dataclasses

import numpy as np

# Types that are read as float32, exactly, and written as they came.
HALF = ("float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class StateDict:
    """The content of a file of weights.

    Attributes:
      tensors: key -> array, in the file's order; half precision is float32 here.
      half: key -> one of HALF, of the tensors that are so in the file.
      entry: names from the file's top down to the state dict; empty: it is the whole file.
      others: names of the other entries.
    """

    tensors: dict[str, np.ndarray]
    half: dict[str, str] = dataclasses.field(default_factory=dict)
    entry: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
