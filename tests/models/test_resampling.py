"""Resizing equals `torch.nn.functional.interpolate`."""

import numpy as np
import pytest
from torch.nn import functional

from alp_jax.models import resampling
from tests.models.originals import draw, to_torch

OLD = (5, 9)


@pytest.mark.parametrize("size", [(5, 9), (3, 20), (13, 4)])
@pytest.mark.parametrize("kind", ["bilinear", "bicubic", "bicubic by a factor", "antialiased"])
def test_resizing_equals_pytorch(kind, size):
    maps = draw(2, *OLD, 3)
    factors = tuple((new + 0.1) / old for old, new in zip(OLD, size, strict=True))
    options = {
        "bilinear": {"size": size, "mode": "bilinear"},
        "bicubic": {"size": size, "mode": "bicubic"},
        "bicubic by a factor": {"scale_factor": factors, "mode": "bicubic"},
        "antialiased": {"size": size, "mode": "bicubic", "antialias": True},
    }[kind]
    makers = {
        "bilinear": resampling.make_bilinear,
        "bicubic": resampling.make_bicubic,
        "bicubic by a factor": lambda old, new: resampling.make_bicubic(
            old, new, (new + 0.1) / old
        ),
        "antialiased": resampling.make_antialiased_bicubic,
    }
    actual = resampling.resize(maps, *map(makers[kind], OLD, size))
    expected = functional.interpolate(to_torch(maps), **options).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    if kind == "bilinear":
        np.testing.assert_array_equal(resampling.resize_bilinear(maps, size), actual)
