"""Feeds source images with the target's low frequencies: Yang and Soatto, CVPR 2020 (FDA)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.data.samples import Batch, Sample
from alp_jax.objective.types import SOURCE, TARGET, Size, Surroundings, View
from alp_jax.settings.schema import refuse, setting


@dataclasses.dataclass(frozen=True)
class Fourier(View):
    """Feeds source images whose low-frequency amplitudes are those of target images.

    In the spectrum of each channel, the amplitudes of the frequencies -b..b of both axes (cycles
    per image), b = floor(beta min(H, W)), become those of the target image at the same place in the
    batch; phases stay, and so do labels and weights. Images are exchanged as RGB in 0..255, before
    the network subtracts its mean, and are not clipped afterwards, as in the code.

    Code: YanchaoYang/FDA, `FDA_source_to_target_np`. Two deviations from its training script:

    - The script calls another function, which exchanges the frequencies -b..b-1 (none where b is
      0). Such a spectrum is that of no real image, and what it becomes depends on the library.
    - Its domains have one size. Here the target may have another: its amplitudes are multiplied by
      the ratio of the numbers of pixels, as if it were resized by its Fourier series first.
    """

    beta: float = setting(
        0.01,
        "Half the side of the square of exchanged frequencies, as a share of the source's shorter "
        "side (FDA: 0.01, 0.05 and 0.09).",
        at_least=0,
        below=0.5,
    )

    @property
    def domains(self) -> tuple[str, ...]:
        """Source and target."""
        return SOURCE, TARGET

    def make(self, batch: Batch, key: jax.Array) -> Sample:
        """Exchanges the amplitudes; `key` is not used."""
        del key
        source = batch[SOURCE]
        images = exchange_amplitudes(
            source.images, batch[TARGET].images, self._get_half(source.images.shape[1:3])
        )
        return source._replace(images=images)

    def describe(self, name: str, surroundings: Surroundings) -> tuple[Size, bool]:
        """Returns (size of a source image, whether the source has labels)."""
        size = surroundings.sizes[SOURCE]
        smallest = min(*size, *surroundings.sizes[TARGET])
        half = self._get_half(size)
        if 2 * half >= smallest:
            refuse(
                f"{name}.beta",
                self.beta,
                f"a square of {2 * half + 1}x{2 * half + 1} frequencies (side 2 floor(beta "
                f"{min(size)}) + 1) of at most {smallest}, the shortest side of both domains",
            )
        return size, SOURCE in surroundings.labelled

    def _get_half(self, size: Size) -> int:
        """Computes b, the highest frequency that is exchanged."""
        return int(self.beta * min(size))


def exchange_amplitudes(source: jax.Array, target: jax.Array, half: int) -> jax.Array:
    """Replaces the amplitudes of the lowest frequencies of images by those of others.

    Args:
      source: [B, H, W, C] images.
      target: [B, h, w, C] images, of any size.
      half: b; the frequencies -b..b of both axes are exchanged, 2 b + 1 at most the shortest side.
    Returns:
      [B, H, W, C] float32 or wider.
    """
    source, target = (
        jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32)) for x in (source, target)
    )
    height, width = source.shape[1:3]
    ratio = (height * width) / (target.shape[1] * target.shape[2])
    spectrum, other = (jnp.fft.rfft2(images, axes=(1, 2)) for images in (source, target))
    # Columns have the frequencies 0..w/2 alone: those below 0 are their conjugates.
    box = (slice(None), np.arange(-half, half + 1), slice(0, half + 1))
    phase = jnp.exp(1j * jnp.angle(spectrum[box]))
    spectrum = spectrum.at[box].set(ratio * jnp.abs(other[box]) * phase)
    return jnp.fft.irfft2(spectrum, s=(height, width), axes=(1, 2))


VIEW = Fourier
