"""Simulates the appearance of the two cities: colours, haze, light, lens and sensor.

Every quantity of the target city is (1 - A) * source + A * target with A = appearance_shift: A = 0
gives the source city's appearance. The number of draws never depends on A. After the polygon
colours, all arithmetic is on integers: pixels have 8 fractional bits, factors are in 1/256.
"""

import dataclasses

import numpy as np

from alp_jax.data.labels import CITYSCAPES_ID_BY_NAME
from data_prep.toy_cities import materials
from data_prep.toy_cities.draws import Draws
from data_prep.toy_cities.scene import Polygons

# RGB of the top and of the bottom of the sky. The source city's sky varies from clear to hazy: if
# it were always blue, a network would predict "wall" for every overcast sky of the target.
_CLEAR_SKY = np.array([(105, 165, 240), (222, 230, 240)], np.float64)
_HAZY_SKY = np.array([(196, 205, 216), (232, 235, 239)], np.float64)
_TARGET_SKY = np.array([(206, 209, 214), (236, 237, 238)], np.float64)
_BYTE_SUM_SIGMA = 147.8  # standard deviation of the sum of four uniform bytes
_MAX_SHADOWS = 4
_BLUR_FULL_AT = 0.6  # appearance shift at which the lens blur reaches its maximum
_GROUND = tuple(CITYSCAPES_ID_BY_NAME[name] for name in ("road", "sidewalk"))


@dataclasses.dataclass(frozen=True)
class Appearance:
    """The appearance of one image.

    shift: appearance shift. haze_metres: distance at which about 63% of the light is haze.
    haze_colour, sky_top, sky_bottom: RGB 0..255. channel_gain: three factors. contrast: factor
    around mid-grey. texture: amplitude of the relative brightness texture. gradient: relative
    change of brightness from left to right and from top to bottom. shadows: (centre x, centre y,
    radius x, radius y) in image widths and heights, and a brightness factor. blur_tap: weight of
    either neighbour in a 3-tap filter, in 1/256. noise_sigma: standard deviation, in 0..255.
    """

    shift: float
    haze_metres: float
    haze_colour: np.ndarray
    sky_top: np.ndarray
    sky_bottom: np.ndarray
    channel_gain: np.ndarray
    contrast: float
    texture: float
    gradient: tuple[float, float]
    shadows: tuple[tuple[float, float, float, float, float], ...]
    blur_tap: int
    noise_sigma: float


def sample_appearance(draws: Draws, shift: float) -> Appearance:
    """Samples the appearance of an image of the source city (shift 0) or of a target city."""

    def between(source: tuple[float, float], target: tuple[float, float]) -> float:
        value = draws.unit()
        ends = [low + (high - low) * value for low, high in (source, target)]
        return (1 - shift) * ends[0] + shift * ends[1]

    source_sky = _CLEAR_SKY + draws.unit() * (_HAZY_SKY - _CLEAR_SKY)
    sky = (1 - shift) * source_sky + shift * _TARGET_SKY
    light = between((0.95, 1.03), (0.93, 1.04))
    gain = between((0.82, 1.15), (0.75, 1.0))
    tint = [between((0.95, 1.05), cast) for cast in ((0.91, 0.99), (0.98, 1.06), (0.92, 1.0))]
    # Always draws _MAX_SHADOWS shadows, so that the number of draws is constant; uses 1 to 4.
    num_shadows = draws.integer(1, _MAX_SHADOWS)
    shadows = [
        (draws.unit(), draws.uniform(0.5, 1.0), draws.uniform(0.1, 0.35), draws.uniform(0.05, 0.2),
         between((1.0, 1.0), (0.55, 0.85)))
        for _ in range(_MAX_SHADOWS)
    ]  # fmt: skip
    return Appearance(
        shift=shift,
        haze_metres=between((250, 600), (70, 160)),
        haze_colour=0.35 * sky[0] + 0.65 * sky[1],
        sky_top=sky[0] * light,
        sky_bottom=sky[1] * light,
        channel_gain=gain * np.array(tint),
        contrast=between((1.0, 1.0), (0.75, 0.95)),
        texture=between((0.05, 0.08), (0.18, 0.30)),
        gradient=(between((0, 0), (-0.15, 0.15)), between((0, 0), (-0.15, 0.15))),
        shadows=tuple(shadows[:num_shadows]),
        blur_tap=int(draws.uniform(10, 54) * min(1.0, shift / _BLUR_FULL_AT)),
        noise_sigma=between((1.5, 1.5), (3, 6)),
    )


def polygon_colours(polygons: Polygons, look: Appearance) -> np.ndarray:
    """Computes the colours of polygons, with shading and haze: [P, 3] uint8 RGB."""
    base = materials.colours(polygons.material, polygons.hue, polygons.tone, look.shift)
    shaded = np.minimum(base * polygons.shade[:, None], 255.0)
    # (1 + d / 2L)^-2 is close to exp(-d / L) and, unlike exp, the same on every machine.
    ratio = 1 + polygons.distance / (2 * look.haze_metres)
    clear = (1 / (ratio * ratio))[:, None]
    return np.rint(clear * shaded + (1 - clear) * look.haze_colour).astype(np.uint8)


def sky_rows(look: Appearance, height: int) -> np.ndarray:
    """Computes the sky's colour for each image row, from the top: [height, 3] uint8 RGB."""
    fraction = np.minimum(np.arange(height) / (0.55 * height), 1.0)[:, None]
    colour = look.sky_top + (look.sky_bottom - look.sky_top) * fraction
    return np.rint(np.minimum(colour, 255.0)).astype(np.uint8)


def develop(
    summed: np.ndarray, labels: np.ndarray, sky_label: int, look: Appearance, draws: Draws
) -> np.ndarray:
    """Simulates a photograph from ideal colours: texture, shadows, blur, contrast and noise.

    Args:
        summed: [H, W, 3] int32, sums of four RGB samples (0..1020) per pixel.
        labels: [H, W] uint8 label ids, which determine where shadows and texture apply.
        sky_label: label id of the sky, which has a quarter of the texture.
        look: the appearance.
        draws: source of noise.
    Returns:
        [H, W, 3] uint8 RGB.
    """
    height, width = labels.shape
    pixels = summed << 6  # 8 fractional bits
    texture = (_texture(draws, height, width) * int(look.texture * 256)) >> 7
    brightness = 256 + np.where(labels == sky_label, texture >> 2, texture)
    brightness = (brightness * _gradient(look, height, width)) >> 8
    on_ground = np.isin(labels, _GROUND)
    brightness = np.where(on_ground, (brightness * _shadows(look, height, width)) >> 8, brightness)
    pixels = (pixels * brightness[:, :, None]) >> 8
    if look.blur_tap:
        pixels = _blur(_blur(pixels, look.blur_tap, 0), look.blur_tap, 1)
    contrast = int(look.contrast * 256)
    pixels = ((pixels - (110 << 8)) * contrast >> 8) + (110 << 8)
    pixels = pixels * np.rint(look.channel_gain * 256).astype(np.int32) >> 8
    noise = draws.bytes(4 * height * width * 3).reshape(4, height, width, 3)
    centred = noise.astype(np.int32).sum(axis=0) - 510
    pixels += centred * int(look.noise_sigma * 256 * 256 / _BYTE_SUM_SIGMA) >> 8
    return np.clip((pixels + 128) >> 8, 0, 255).astype(np.uint8)


def _texture(draws: Draws, height: int, width: int) -> np.ndarray:
    """Draws noise of three octaves (cells of 2, 4, 8 pixels): [H, W] int32, about -128..127."""
    total = np.zeros((height, width), np.int32)
    for cell, weight in ((2, 3), (4, 3), (8, 2)):
        rows, columns = height // cell + 2, width // cell + 2
        grid = draws.bytes(rows * columns).reshape(rows, columns).astype(np.int32) - 128
        total += weight * _stretch(_stretch(grid, cell, height).T, cell, width).T
    return total >> 3


def _stretch(grid: np.ndarray, cell: int, size: int) -> np.ndarray:
    """Interpolates the rows of an integer grid linearly to `size` rows, `cell` per grid row."""
    index, part = np.divmod(np.arange(size), cell)
    part = part[:, None]
    return (grid[index] * (cell - part) + grid[index + 1] * part) // cell


def _gradient(look: Appearance, height: int, width: int) -> np.ndarray:
    """Computes brightness factors that change across the image: [H, W] int32, in 1/256."""
    across = np.linspace(-1, 1, width) * look.gradient[0]
    down = np.linspace(-1, 1, height) * look.gradient[1]
    return np.rint((1 + across[None, :] + down[:, None]) * 256).astype(np.int32)


def _shadows(look: Appearance, height: int, width: int) -> np.ndarray:
    """Computes brightness factors of soft dark ellipses: [H, W] int32, in 1/256."""
    x = (np.arange(width) + 0.5) / width
    y = (np.arange(height) + 0.5) / height
    factor = np.ones((height, width))
    for centre_x, centre_y, radius_x, radius_y, dark in look.shadows:
        across, down = (x - centre_x) / radius_x, (y - centre_y) / radius_y
        distance = (across * across)[None, :] + (down * down)[:, None]
        inside = np.clip(1.5 * (1.0 - distance), 0.0, 1.0)
        factor *= 1 - (1 - dark) * inside
    return np.rint(factor * 256).astype(np.int32)


def _blur(pixels: np.ndarray, tap: int, axis: int) -> np.ndarray:
    """Applies a 3-tap filter along one axis; border pixels are repeated."""
    last = pixels.shape[axis] - 1
    index = np.arange(last + 1)
    before = pixels.take(np.maximum(index - 1, 0), axis)
    after = pixels.take(np.minimum(index + 1, last), axis)
    return (pixels * (256 - 2 * tap) + (before + after) * tap) >> 8
