"""Feeds the images of a round of self-training, with soft labels from a teacher: LRENT."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from alp_jax.data.labels import IGNORE_LABEL
from alp_jax.data.samples import Batch, Sample
from alp_jax.objective.teacher import Taught
from alp_jax.objective.types import Size, Surroundings, View
from alp_jax.self_training.selection import soften
from alp_jax.self_training.settings import SELF_TRAINING
from alp_jax.settings.schema import refuse


@dataclasses.dataclass(frozen=True)
class SoftLabelled(View):
    """Replaces the hard pseudo-labels of target images by y_k ~ (p_k / lambda_k)^(1 / alpha).

    Zou et al., ICCV 2019, LRENT: p is the teacher's prediction, lambda its thresholds and alpha its
    temperature. Pixels without a hard label get none; source images get theirs as one-hot vectors.

    Deviation: yzou2/CRST predicts whole images at 0.9 of their size, averaged with the mirrored
    ones, stores p of every pixel (160 MB an image), and resizes it together with the image; here p
    is predicted anew from each crop. Which pixels have a label is decided as there.
    """

    uses_teacher: ClassVar[bool] = True

    @property
    def domains(self) -> tuple[str, ...]:
        """The mixed domain of a round."""
        return (SELF_TRAINING,)

    def make(self, batch: Batch, key: jax.Array, *, teacher: Taught | None = None) -> Sample:
        """Adds soft labels [B, H, W, K] to the sample; `key` is not used."""
        del key
        if teacher is None:
            raise ValueError("The view needs a teacher.")
        sample = batch[SELF_TRAINING]
        labels = jnp.asarray(sample.labels)
        soft = soften(
            teacher.predict(sample.images), teacher.thresholds, temperature=teacher.temperature
        )
        hard = jax.nn.one_hot(labels, soft.shape[-1], dtype=soft.dtype)
        is_target = jnp.asarray(sample.from_target)[:, None, None, None]
        has_label = (labels != IGNORE_LABEL)[..., None]
        return sample._replace(soft_labels=jnp.where(is_target, soft, hard) * has_label)

    def describe(self, name: str, surroundings: Surroundings) -> tuple[Size, bool]:
        """Returns (size of the crops, True)."""
        if SELF_TRAINING not in surroundings.sizes:
            kind = f"{name}.kind"
            refuse(kind, "soft_labelled", "a run with config.rounds.num_rounds above 0 for it")
        return surroundings.sizes[SELF_TRAINING], True


VIEW = SoftLabelled
