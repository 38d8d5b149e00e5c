"""Defines the types of an objective: views, terms, and the inputs and outputs of a term.

For each view (a forward pass of the segmenter), a step computes the sum of the terms that read the
view; then it updates the segmenter, and the parameters that terms own. A method is a list of views
and terms.
"""

import abc
import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.data.samples import Batch, Sample
from alp_jax.models.segmenter import Outputs
from alp_jax.settings.schema import setting

PyTree = Any
Size = tuple[int, int]  # (height, width), pixels
Scalars = dict[str, jax.Array]

SOURCE, TARGET = "source", "target"
# View name -> role that is folded into the run's key.
_ROLES = {SOURCE: 0, TARGET: 1}


class Seen(NamedTuple):
    """Inputs of a term for one view.

    Attributes:
      view: name of the view.
      outputs: the segmenter's outputs for the view's images.
      sample: the view's images, labels and weights.
      key: typed key of the view in this step, the same for all of its terms.
      params: parameters of the segmenter.
      own: parameters that the term owns; None without any.
      step: number of updates before this step.
    """

    view: str
    outputs: Outputs
    sample: Sample
    key: jax.Array
    params: PyTree
    own: PyTree | None
    step: jax.Array


class Contribution(NamedTuple):
    """Outputs of a term for one view.

    Attributes:
      loss: unweighted loss that the segmenter minimises; None adds nothing.
      scalars: scalars to log; equal names are summed over views.
      kept: values that `own_loss` needs from this view, as constants.
    """

    loss: jax.Array | None = None
    scalars: Mapping[str, jax.Array] = {}
    kept: PyTree = None


class Surroundings(NamedTuple):
    """Facts about a run that views and terms are checked against.

    Attributes:
      sizes: domain or view -> (height, width) of its images, pixels.
      heads: names of the segmenter's heads.
      labelled: domains and views whose samples have labels.
    """

    sizes: dict[str, Size]
    heads: tuple[str, ...]
    labelled: frozenset[str]


@dataclasses.dataclass(frozen=True)
class View(abc.ABC):
    """A forward pass of the segmenter, and the images that it gets.

    Attributes:
      name: name of the view; determines its random key.
      moves_statistics: whether the pass updates the running statistics of batch norm.
      is_random: whether `make` uses its key.
      uses_teacher: whether `make` gets a teacher, too: make(batch, key, teacher=...), a
        `alp_jax.objective.teacher.Taught`.
    """

    name: str = ""
    moves_statistics: bool = setting(
        True, "Whether the images update the running statistics of batch norm."
    )
    is_random: ClassVar[bool] = False
    uses_teacher: ClassVar[bool] = False

    @property
    def role(self) -> int:
        """Number that is folded into the run's key for this view, derived from its name."""
        return _ROLES.get(self.name, max(len(_ROLES), zlib.crc32(self.name.encode())))

    @property
    @abc.abstractmethod
    def domains(self) -> tuple[str, ...]:
        """Domains of the batch that the view reads."""

    @abc.abstractmethod
    def make(self, batch: Batch, key: jax.Array) -> Sample:
        """Creates the view's images from the batch."""

    @abc.abstractmethod
    def describe(self, name: str, surroundings: Surroundings) -> tuple[Size, bool]:
        """Returns (size of the view's images, whether they have labels).

        Args:
          name: name of the view's block in the configuration.
          surroundings: facts about the run, for domains only.
        Raises:
          UserError: if the settings do not fit the images.
        """


class Curve(NamedTuple):
    """A curve of a report, and its label in the progress bar.

    Attributes:
      title: title of the picture, with the unit.
      scalars: names of the scalars whose mean is drawn.
      scale: factor of that mean.
      short: label in the progress bar; empty: not shown there.
    """

    title: str
    scalars: tuple[str, ...]
    scale: float = 1.0
    short: str = ""


class Watch(abc.ABC):
    """Watches the averaged scalars of a run for faults of a term."""

    @abc.abstractmethod
    def update(self, step: int, averages: Mapping[str, float]) -> str | None:
        """Takes the averages of one line of metrics.jsonl; returns a warning, or None."""


@dataclasses.dataclass(frozen=True)
class Term(abc.ABC):
    """A part of the loss.

    Attributes:
      name: name of the term; its scalars are named after it.
      weight: factor of the loss.
      damping_steps: steps in which the factor falls to 0.
      owns_parameters: whether `create` returns parameters, which `own_loss` trains.
    """

    name: str = ""
    weight: float = setting(1.0, "Factor of the loss.", at_least=0)
    damping_steps: int = setting(
        0,
        "Steps in which the factor falls to 0 along a line, as in CLAN; 0: it does not fall.",
        at_least=0,
    )
    owns_parameters: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def views(self) -> tuple[str, ...]:
        """Names of the views that the term reads."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the segmenter's heads that the term reads."""
        return ()

    @abc.abstractmethod
    def loss(self, seen: Seen) -> Contribution:
        """Computes the term's contribution for one view."""

    def factor(self, step: jax.Array) -> jax.Array | float:
        """Computes the factor of the loss at a step: weight * (1 - step / damping_steps)."""
        if not self.damping_steps:
            return self.weight
        return self.weight * jnp.maximum(1 - jnp.asarray(step, float) / self.damping_steps, 0)

    def check_fit(self, name: str, surroundings: Surroundings) -> None:
        """Refuses settings that do not fit the run.

        Args:
          name: name of the term's block in the configuration.
          surroundings: facts about the run, for its views.
        Raises:
          UserError: naming the field.
        """
        del name, surroundings

    def complete(self, count_pixels: Callable[[], np.ndarray]) -> Self:
        """Returns the term with its empty `derived` fields filled from the source's labels.

        Called when a run starts, before its step is built.

        Args:
          count_pixels: returns the [K] pixels of each class in the source dataset, as stored, or
            raises UserError if it was prepared without them.
        """
        del count_pixels
        return self

    @property
    def key(self) -> str:
        """Key of the term's own parameters in the state."""
        return self.name

    @property
    def curves(self) -> tuple[Curve, ...]:
        """Curves of the term for the progress bar and for reports."""
        return ()

    def watch(self) -> Watch | None:
        """Creates the term's watch for a run; None if the term has none."""
        return None

    def create(self, key: jax.Array, num_classes: int) -> PyTree:
        """Creates the initial values of the term's own parameters."""
        raise NotImplementedError(f"{type(self).__name__} owns no parameters.")

    def own_loss(self, own: PyTree, kept: Mapping[str, PyTree]) -> tuple[jax.Array, Scalars]:
        """Computes the loss that the term's own parameters minimise.

        Args:
          own: the term's own parameters.
          kept: view -> `Contribution.kept`.
        Returns:
          (loss, scalars to log).
        """
        raise NotImplementedError(f"{type(self).__name__} owns no parameters.")


@dataclasses.dataclass(frozen=True)
class Placement(abc.ABC):
    """A placement of patches on a prediction (g in the paper)."""

    @property
    def fixed_places(self) -> int | None:
        """Number of patches of a map if every map has them at the same places; None otherwise."""
        return None

    @abc.abstractmethod
    def take(self, logits: jax.Array, size: Size, key: jax.Array) -> jax.Array:
        """Upsamples logits to the images' size and extracts the patches.

        Args:
          logits: [B, h_in, w_in, C] at the network's stride.
          size: (H, W) of the images, pixels.
          key: typed key.
        Returns:
          [B * P, h, w, C], the P patches of the first map first.
        """

    @abc.abstractmethod
    def get_patch_size(self, name: str, view: str, size: Size) -> Size:
        """Returns the size of a patch.

        Args:
          name: name of the placement's block in the configuration.
          view: name of the view whose map is used, for error messages.
          size: (height, width) of the map, pixels.
        Raises:
          UserError: if the patches do not fit.
        """
