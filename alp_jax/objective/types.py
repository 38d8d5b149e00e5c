"""The types of an objective: views, terms, and what a term may look at.

One step computes, for each view (a forward pass of the segmenter), the sum of the terms that read
it; then it updates the segmenter, and the parameters that terms own. A method is a list of views
and terms.
"""

import abc
import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax

from alp_jax.data.samples import Batch, Sample
from alp_jax.models.segmenter import Outputs, Segmenter
from alp_jax.objective.optim import Optimizer
from alp_jax.settings.schema import setting

PyTree = Any
Size = tuple[int, int]  # (height, width), pixels
Scalars = dict[str, jax.Array]

SOURCE, TARGET = "source", "target"
# What a view's name folds into the run's key.
_ROLES = {SOURCE: 0, TARGET: 1}


class Seen(NamedTuple):
    """What a term may look at in one view.

    Attributes:
      view: name of the view.
      outputs: of the segmenter for the view's images.
      sample: the view's images, labels and weights.
      key: typed key of the view in this step, the same for all of its terms.
      params: of the segmenter.
      own: parameters of the term itself; None where it owns none.
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
    """What a term adds in one view.

    Attributes:
      loss: what the segmenter minimises, unweighted; None adds nothing.
      scalars: to log; those of the same name are summed over views.
      kept: what `own_loss` needs of this view, a constant for it.
    """

    loss: jax.Array | None = None
    scalars: Mapping[str, jax.Array] = {}
    kept: PyTree = None


class Surroundings(NamedTuple):
    """What a term or view is checked against.

    Attributes:
      sizes: domain or view -> (height, width) of its images, pixels.
      heads: of the segmenter.
      labelled: the domains and views whose samples have labels.
    """

    sizes: dict[str, Size]
    heads: tuple[str, ...]
    labelled: frozenset[str]


@dataclasses.dataclass(frozen=True)
class View(abc.ABC):
    """A forward pass of the segmenter: which images it feeds.

    Attributes:
      name: of the view; decides its random key.
      moves_statistics: whether the pass updates the running statistics of batch norm.
      is_random: whether `make` uses its key.
    """

    name: str = ""
    moves_statistics: bool = setting(
        True, "Whether the images update the running statistics of batch norm."
    )
    is_random: ClassVar[bool] = False

    @property
    def role(self) -> int:
        """What is folded into the run's key for this view: another for every name."""
        return _ROLES.get(self.name, max(len(_ROLES), zlib.crc32(self.name.encode())))

    @property
    @abc.abstractmethod
    def domains(self) -> tuple[str, ...]:
        """The domains of the batch that the view reads."""

    @abc.abstractmethod
    def make(self, batch: Batch, key: jax.Array) -> Sample:
        """Creates the view's images from the batch."""

    @abc.abstractmethod
    def describe(self, name: str, surroundings: Surroundings) -> tuple[Size, bool]:
        """Returns (size of the view's images, whether they have labels).

        Args:
          name: of the view's block in the configuration.
          surroundings: of the run, without views.
        Raises:
          UserError: if the settings do not fit the images.
        """


class Curve(NamedTuple):
    """A curve of a report, and what a progress bar shows of it.

    Attributes:
      title: of the picture, with the unit.
      scalars: whose mean is drawn.
      scale: what that mean is multiplied by.
      short: label in the progress bar; empty: not shown there.
    """

    title: str
    scalars: tuple[str, ...]
    scale: float = 1.0
    short: str = ""


class Watch(abc.ABC):
    """Looks at the averages of every report for what goes wrong with a term."""

    @abc.abstractmethod
    def update(self, step: int, averages: Mapping[str, float]) -> str | None:
        """Takes the averages of a report; returns a warning, or None."""


@dataclasses.dataclass(frozen=True)
class Term(abc.ABC):
    """A part of the loss.

    Attributes:
      name: of the term; its scalars are named after it.
      weight: what the loss is multiplied by.
      owns_parameters: whether `create` gives parameters, which `own_loss` trains.
    """

    name: str = ""
    weight: float = setting(1.0, "What the loss is multiplied by.", at_least=0)
    owns_parameters: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def views(self) -> tuple[str, ...]:
        """The views that the term reads."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads of the segmenter that the term reads."""
        return ()

    @abc.abstractmethod
    def loss(self, seen: Seen) -> Contribution:
        """Computes what the term adds in one view."""

    def check_fit(self, name: str, surroundings: Surroundings) -> None:
        """Refuses settings that do not fit the run.

        Args:
          name: of the term's block in the configuration.
          surroundings: of the run.
        Raises:
          UserError: naming the field.
        """
        del name, surroundings

    @property
    def key(self) -> str:
        """Where the state holds the term's own parameters."""
        return self.name

    @property
    def curves(self) -> tuple[Curve, ...]:
        """What to show of the term while training and in reports."""
        return ()

    def watch(self) -> Watch | None:
        """Creates the watch of a run, if the term has one."""
        return None

    def create(self, key: jax.Array, num_classes: int) -> PyTree:
        """Creates the term's own parameters."""
        raise NotImplementedError(f"{type(self).__name__} owns no parameters.")

    def own_loss(self, own: PyTree, kept: Mapping[str, PyTree]) -> tuple[jax.Array, Scalars]:
        """Computes what the term's own parameters minimise.

        Args:
          own: the parameters.
          kept: view -> what `loss` kept of it.
        Returns:
          (loss, scalars to log).
        """
        raise NotImplementedError(f"{type(self).__name__} owns no parameters.")


@dataclasses.dataclass(frozen=True)
class Placement(abc.ABC):
    """Where patches of a prediction lie (g in the paper)."""

    @abc.abstractmethod
    def take(self, logits: jax.Array, size: Size, key: jax.Array) -> jax.Array:
        """Upsamples logits to the images' size and takes the patches.

        Args:
          logits: [B, h_in, w_in, C] at the network's stride.
          size: (H, W) of the images, pixels.
          key: typed key.
        Returns:
          [B * P, h, w, C], the P patches of the first map first.
        """

    @abc.abstractmethod
    def get_patch_size(self, name: str, view: str, size: Size) -> Size:
        """Returns the size of a patch of a map.

        Args:
          name: of the placement's block in the configuration.
          view: whose map it is.
          size: of the map, pixels.
        Raises:
          UserError: if the patches do not fit.
        """


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a method minimises.

    Attributes:
      views: in the order of their forward passes.
      terms: in the order in which their losses are summed.
    """

    views: tuple[View, ...]
    terms: tuple[Term, ...]

    @property
    def owners(self) -> tuple[Term, ...]:
        """The terms with parameters of their own."""
        return tuple(term for term in self.terms if term.owns_parameters)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that a batch must hold."""
        read = {domain for view in self.views for domain in view.domains}
        return tuple(sorted(read))

    def terms_of(self, view: str) -> tuple[Term, ...]:
        """Returns the terms that read a view."""
        return tuple(term for term in self.terms if view in term.views)


@dataclasses.dataclass(frozen=True)
class Setup:
    """The static parts of a step.

    Attributes:
      segmenter: the network that is adapted.
      objective: what is minimised.
      segmenter_optimizer: of the segmenter's parameters.
      own_optimizer: of the parameters that terms own.
    """

    segmenter: Segmenter
    objective: Objective
    segmenter_optimizer: Optimizer
    own_optimizer: Optimizer
