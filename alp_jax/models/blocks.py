"""Applies the equal blocks of a stage, unrolled or as one loop.

Synopsis, in the `__call__` of a module with @nn.compact:

  create = [functools.partial(Block, width=64, name=f"block{i}") for i in range(24)]
  features = apply_blocks(self, create, features, train, in_loop=self.scan_blocks)
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

PyTree = Any

# A single block is not looped: that would save nothing.
_MIN_LOOPED = 2


def apply_blocks(
    parent: nn.Module,
    create: "Sequence[functools.partial[Any]]",
    features: jax.Array,
    *arguments: Any,
    in_loop: bool,
    dtype: jnp.dtype | None = None,
    key: jax.Array | None = None,
    of_each: jax.Array | None = None,
) -> jax.Array:
    """Applies blocks one after the other; each has its own variables, under its own name.

    A loop stacks the variables of all blocks only while it runs, so the names in checkpoints do not
    depend on `in_loop`.

    Args:
      parent: the module that the blocks belong to.
      create: creates each block, with all fields and its `name`; only the names differ.
      features: input of the first block; every block keeps its shape and type.
      arguments: further arguments of every block, constant.
      in_loop: whether the blocks run as one loop.
      dtype: type of the products in the blocks; kernels are stacked in it, to move fewer bytes.
      key: typed key for dropout inside a loop, split into one for each block; None without dropout.
      of_each: an entry for each block, its first argument after the features; None: no such one.
    """
    if not in_loop or len(create) < _MIN_LOOPED or parent.is_initializing():
        for i, create_block in enumerate(create):
            own = () if of_each is None else (of_each[i],)
            features = create_block()(features, *own, *arguments)
        return features
    names = [create_block.keywords["name"] for create_block in create]
    held = {
        kind: [tree[name] for name in names]
        for kind, tree in parent.variables.items()
        if names[0] in tree
    }
    stack = functools.partial(_stack, dtype=dtype)
    stacked = {kind: jax.tree.map(stack, *trees) for kind, trees in held.items()}
    block = create[0](name=None, parent=None)
    state_kinds = [kind for kind in held if kind != "params"]

    def body(features: jax.Array, of_block: tuple[PyTree, Any, Any]) -> tuple[jax.Array, PyTree]:
        variables, block_key, entry = of_block
        rngs = None if block_key is None else {"dropout": block_key}
        own = () if entry is None else (entry,)
        outputs, updated = block.apply(
            variables, features, *own, *arguments, mutable=state_kinds, rngs=rngs
        )
        return cast(jax.Array, outputs), updated

    keys = None if key is None else jax.random.split(key, len(create))
    features, updated = jax.lax.scan(body, features, (stacked, keys, of_each))
    for kind in state_kinds:
        if parent.is_mutable_collection(kind):
            for i, name in enumerate(names):
                own = jax.tree.map(operator.itemgetter(i), updated[kind])
                parent.put_variable(kind, name, own)
    return features


def _stack(*leaves: jax.Array, dtype: jnp.dtype | None) -> jax.Array:
    is_kernel = leaves[0].ndim > 1
    return jnp.stack(leaves, dtype=dtype if is_kernel else None)
