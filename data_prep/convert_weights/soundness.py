"""Checks that the tensors of a file hold numbers that a sound network may have.

Synopsis:

  check(path, state_dict, {"conv1.weight": "params/backbone/conv1/kernel"}, left_out={})
"""

import pathlib
from collections.abc import Collection, Mapping

import numpy as np

from alp_jax.errors import UserError, shorten
from alp_jax.workdir import finite
from data_prep.convert_weights.state_dict import StateDict


def check(
    source: pathlib.Path,
    state_dict: StateDict,
    ours: Mapping[str, str],
    left_out: Collection[str],
) -> None:
    """Refuses tensors of another type than the network's, or with numbers no sound network has.

    Args:
      source: the file, for messages.
      state_dict: its content.
      ours: key of every tensor of the network -> its path in our tree.
      left_out: keys that were left out; what they hold does not matter.
    Raises:
      UserError: naming the tensors.
    """
    faults = []
    for key, array in state_dict.tensors.items():
        if key in ours and array.dtype != np.float32:
            # Conversion from another type would not come back as the same bits.
            raise UserError(
                f"{key} in {source} is {array.dtype}: expected float32, float16 or bfloat16; "
                "convert it and save the file again."
            )
        if key in left_out or not np.issubdtype(array.dtype, np.floating):
            continue
        fault = finite.describe_fault(array, is_variance=key.endswith("running_var"))
        if fault is not None:
            name = f"{key} (here {ours[key]})" if key in ours else key
            if state_dict.half.get(key) == "float16" and np.isinf(array).any():
                fault += "; float16 ends at 65504, so save it in float32 or bfloat16"
            faults.append(f"{name}: {fault}")
    if faults:
        raise UserError(
            f"{source} has numbers that no sound network has ({shorten(faults, 3)}): expected "
            "finite numbers; use a sound copy of the weights, or leave out with --ignore what the "
            "network does not need."
        )
