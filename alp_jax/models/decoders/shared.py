"""Uses the decoder of another head once more, with other random numbers: ADR's second critic."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from alp_jax.models.parts import Decoder, Group
from alp_jax.models.published import Path
from alp_jax.settings.schema import setting


@dataclasses.dataclass(frozen=True)
class SharedSettings(Decoder):
    """Settings of a head that has the decoder of another head, whose dropout is drawn anew."""

    of: str = setting("main", "Head whose decoder is used; this head reads the same stage.")

    @property
    def shares(self) -> str:
        """Head whose decoder is used."""
        return self.of

    def create(self, num_classes: int, dtype: jnp.dtype | None) -> nn.Module:
        """Refuses: the other head's decoder is used."""
        raise NotImplementedError(f"The decoder is that of the head {self.of}.")

    def group(self, path: Path) -> Group | None:
        """Returns None, as there are no parameters of its own."""
        del path
        return None


DECODER = SharedSettings
