"""Many devices against one: the same steps of the same batches, whatever the mesh."""

import functools
import pathlib

import jax
import numpy as np
import pytest

from alp_jax.data.samples import Sample
from alp_jax.devices import mesh
from alp_jax.errors import UserError
from alp_jax.objective import step
from alp_jax.run import assembly
from alp_jax.workdir.settings import build_settings
from tests import tiny

BATCH_SIZE = 8
NUM_STEPS = 5


def create(data: int, space: int, batch_size: int = BATCH_SIZE, heights: tuple[int, ...] = (32,)):
    settings = mesh.MeshSettings(data=data, space=space)
    return mesh.create_mesh(settings, batch_size=batch_size, heights=heights)


@functools.cache
def run_steps(data: int, space: int):
    """Losses of every step, and what the last left."""
    config = tiny.get_config(pathlib.Path("unused"))
    with config.unlocked():
        config.model.backbone.batch_norm_mode = "batch"
        backbone = config.model.backbone
        backbone.depths, backbone.widths = (3,), (8,)  # Two blocks are one loop.
        backbone.strides, backbone.dilations = (1,), (2,)
        config.optimizer.segmenter_learning_rate = 0.01
    setup = assembly.create_setup(build_settings(config))
    devices = create(data, space)
    everywhere = mesh.replicate(devices)
    train_step = jax.jit(
        functools.partial(step.train_step, setup=setup),
        donate_argnums=0,
        out_shardings=everywhere,
    )
    rng = np.random.default_rng(0)
    shape = (BATCH_SIZE, tiny.HEIGHT, tiny.WIDTH)
    state, scalars = assembly.create_train_state(setup, jax.random.key(0), devices), []
    key = jax.device_put(jax.random.key(1), everywhere)
    for _ in range(NUM_STEPS):
        images, labels = rng.integers(0, 256, (*shape, 3), np.uint8), rng.integers(0, 16, shape)
        batch = {
            "source": Sample(images, labels.astype(np.uint8)),
            "target": Sample(rng.integers(0, 256, (*shape, 3), np.uint8)),
        }
        placed = mesh.place_batch(batch, devices, batch_size=BATCH_SIZE)
        state, found = train_step(state, placed, key)
        scalars.append(jax.device_get(found))
    players = (state.segmenter.params, state.segmenter.model_state, state.discriminator)
    return scalars, jax.device_get(players)


# Both axes at once, and the thinnest slices: a row of features a device, fewer than a kernel reads.
@pytest.mark.parametrize("shape", [(2, 4), (1, 8), (8, 1)])
def test_devices_change_no_result(shape):
    expected_scalars, expected_players = run_steps(1, 1)
    scalars, players = run_steps(*shape)
    for actual, expected in zip(scalars, expected_scalars, strict=True):
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=1e-6, err_msg=name)

    def compare(actual, expected):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * np.abs(expected).max())

    jax.tree.map(compare, players, expected_players)


def test_steps_change_the_players():
    """So that the comparison is of something."""
    scalars, _ = run_steps(1, 1)
    losses = [float(found["loss/cross_entropy"]) for found in scalars]
    assert max(losses) - min(losses) > 0.01


@pytest.mark.parametrize(
    ("batch_size", "heights", "asked", "expected"),
    [
        (8, (32,), (0, 0), (8, 1)),
        (1, (720, 512), (0, 0), (1, 8)),
        (2, (720, 512), (0, 0), (2, 4)),
        (3, (45,), (0, 0), (1, 1)),
        (8, (32,), (0, 4), (2, 4)),
        (8, (32,), (4, 0), (4, 2)),
        (8, (32,), (1, 1), (1, 1)),
    ],
)
def test_sizes_of_0_take_what_fits(batch_size, heights, asked, expected):
    assert create(*asked, batch_size, heights).devices.shape == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((8, 8), "asks for 8 x 8 devices and JAX has 8"),
        ((3, 1), r"mesh.data is 3 and a batch has 8 images: expected a divisor"),
        ((1, 5), r"mesh.space is 5 and images have 32 rows: expected a divisor"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(asked, message):
    with pytest.raises(UserError, match=message):
        create(*asked)


def test_a_batch_is_placed_whole_and_in_parts():
    devices = create(2, 4)
    batch = {
        "images": np.arange(8 * 32 * 5 * 3, dtype=np.int32).reshape(8, 32, 5, 3),
        "mask": np.arange(8) < 5,
    }
    placed = mesh.place_batch(batch, devices, batch_size=8)
    for name, array in batch.items():
        np.testing.assert_array_equal(placed[name], array)
    shapes = {shard.data.shape for shard in placed["images"].addressable_shards}
    assert shapes == {(4, 8, 5, 3)}
    assert mesh.local_images(devices, 8) == tuple(range(8))


def test_description_names_unused_devices():
    assert mesh.describe(create(2, 2)) == (
        "4 x cpu; 2 share the images of a batch, 2 the rows of an image; "
        "4 unused, as they divide neither"
    )
