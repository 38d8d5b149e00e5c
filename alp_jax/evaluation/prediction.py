"""The prediction of one image, and its pictures."""

import dataclasses
from collections.abc import Callable

import numpy as np

from alp_jax.data.labels import LabelSet
from alp_jax.evaluation import figures

_ROWS = 256  # Painted at a time: the numbers of a whole large image would take gigabytes.


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction of one image.

    Attributes:
      image: [H, W, 3] uint8 RGB, the given image.
      train_ids: [H, W] uint8, indices into `label_set.classes`.
      entropy: [H, W] float32 in [0, 1]; 1 is a uniform prediction.
      probabilities: [H, W, C] float32, or None if not requested.
      label_set: the C classes.
    """

    image: np.ndarray
    train_ids: np.ndarray
    entropy: np.ndarray
    probabilities: np.ndarray | None
    label_set: LabelSet

    @property
    def label_ids(self) -> np.ndarray:
        """Label ids of the label set, [H, W] uint8."""
        return self.label_set.to_label_ids[self.train_ids]

    def colour(self) -> np.ndarray:
        """Paints the classes: [H, W, 3] uint8 RGB."""
        return self._paint(lambda rows: self.label_set.colourise(self.train_ids[rows]))

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """Paints the classes over the image: [H, W, 3] uint8 RGB."""

        def mix(rows: slice) -> np.ndarray:
            colour = self.label_set.colourise(self.train_ids[rows])
            return ((1.0 - opacity) * self.image[rows] + opacity * colour).round()

        return self._paint(mix)

    def entropy_colour(self) -> np.ndarray:
        """Paints the entropy from purple (0) to yellow (1): [H, W, 3] uint8 RGB."""
        return self._paint(lambda rows: figures.colour_entropy(self.entropy[rows]))

    def _paint(self, paint: Callable[[slice], np.ndarray]) -> np.ndarray:
        picture = np.empty((*self.train_ids.shape, 3), np.uint8)
        for top in range(0, len(picture), _ROWS):
            rows = slice(top, top + _ROWS)
            picture[rows] = paint(rows)
        return picture
