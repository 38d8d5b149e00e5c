"""Checks what views, terms and placements return, which may be a user's own.

All of it happens while a step is traced; nothing runs with the compiled step.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax

from alp_jax.data.samples import Batch, Sample
from alp_jax.errors import UserError
from alp_jax.objective.types import Contribution, Placement, Size, Surroundings, Term, View

T = TypeVar("T")


def check_sample(view: View, value: Any, batch: Batch, heads: Sequence[str]) -> Sample:
    """Returns what a view makes of a batch if it is what the view's `describe` says.

    Raises:
      UserError: naming the view, what it returns and what is expected.
    """
    name = f"config.views.{view.name}"
    sample = check_type(value, Sample, f"make of {name}")
    sizes = {domain: found.images.shape[1:3] for domain, found in batch.items()}
    labelled = frozenset(domain for domain, found in batch.items() if found.labels is not None)
    size, has_labels = check_description(
        view.describe(name, Surroundings(sizes, tuple(heads), labelled)), name
    )
    shape = getattr(sample.images, "shape", None)
    if shape is None or len(shape) != 4 or shape[1:] != (*size, 3):
        raise UserError(
            f"The make of {name} returns images that are {describe_value(sample.images)}: expected "
            f"[B, {size[0]}, {size[1]}, 3], as its describe says."
        )
    if has_labels and sample.labels is None:
        raise UserError(
            f"The make of {name} returns no labels, and its describe says that the images have "
            "labels: expected labels in the Sample, or False in describe."
        )
    for field in ("labels", "weights"):
        value = getattr(sample, field)
        if value is not None and getattr(value, "shape", None) != shape[:3]:
            raise UserError(
                f"The make of {name} returns {field} that are {describe_value(value)}: expected "
                f"the shape {shape[:3]}, a value for each pixel of its images."
            )
    return sample


def check_description(value: Any, name: str) -> tuple[Size, bool]:
    """Returns (size of a view's images, whether they have labels) if it has these types."""
    match value:
        case ((int() as height, int() as width), bool() as has_labels):
            return (height, width), has_labels
        case found:
            raise UserError(
                f"The describe of {name} returns {found!r}: expected ((height, width), whether the "
                "images have labels)."
            )


def check_contribution(term: Term, value: Any) -> Contribution:
    """Returns what a term contributes if all of it are numbers."""
    name = f"config.terms.{term.name}"
    part = check_type(value, Contribution, f"loss of {name}")
    numbers = {f"the scalar {key}": scalar for key, scalar in part.scalars.items()}
    if part.loss is not None:
        numbers["the loss"] = part.loss
    for what, number in numbers.items():
        if getattr(number, "shape", None) != ():
            raise UserError(
                f"In the Contribution of {name}, {what} is {describe_value(number)}: expected one "
                "number, an array of shape (), such as a jnp.mean."
            )
    return part


def check_patch_size(value: Any, name: str) -> Size:
    """Returns the size of a placement's patches if it is one."""
    match value:
        case (int() as height, int() as width):
            return height, width
        case found:
            raise UserError(
                f"The get_patch_size of {name} returns {found!r}: expected (height, width), pixels."
            )


def check_patches(
    placement: Placement, value: Any, logits: jax.Array, size: Size, name: str
) -> jax.Array:
    """Returns the patches that a placement takes of logits if they have its patches' size.

    Args:
      placement: it.
      value: what its `take` returns.
      logits: [B, h_in, w_in, C] that they are taken of.
      size: (height, width) of the images, pixels.
      name: of the placement's block in the configuration.
    """
    height, width = check_patch_size(placement.get_patch_size(name, "", size), name)
    batch, classes = logits.shape[0], logits.shape[-1]
    shape: tuple[int, ...] = getattr(value, "shape", ())
    if len(shape) != 4 or shape[1:] != (height, width, classes) or shape[0] % batch:
        raise UserError(
            f"The take of {name} returns {describe_value(value)}: expected the shape "
            f"[{batch} * P, {height}, {width}, {classes}], P patches of the size that its "
            f"get_patch_size says, of {batch} maps of {classes} classes."
        )
    return value


def check_type(value: Any, expected: type[T], what: str) -> T:
    """Returns the result of a user's own view or term if it has the right type."""
    if not isinstance(value, expected):
        found = "an array" if isinstance(value, jax.Array) else type(value).__name__
        raise UserError(
            f"The {what} returns {found}: expected {expected.__name__} of {expected.__module__}."
        )
    return value


def describe_value(value: Any) -> str:
    """Describes an array by its shape, anything else by its type."""
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"an array of shape {tuple(shape)}"
