"""What a user's own view, placement and term return is checked while a step is traced."""

import dataclasses
import pathlib
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.data.samples import Sample
from alp_jax.errors import UserError
from alp_jax.objective import checks, step
from alp_jax.objective.settings import placement, term, view
from alp_jax.objective.types import Placement, View
from alp_jax.run import assembly
from alp_jax.workdir.settings import build_settings
from tests import tiny
from tests.refusals import refusal

SIZE = (tiny.HEIGHT, tiny.WIDTH)


@dataclasses.dataclass(frozen=True)
class Described(View):
    """Describes images of SIZE with labels, whatever it makes."""

    domains = ("source",)

    def make(self, batch, key):
        return batch["source"]

    def describe(self, name, surroundings):
        return SIZE, True


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


IMAGES, LABELS = zeros(2, *SIZE, 3), zeros(2, *SIZE)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (Sample(IMAGES[:, ::2, ::2], LABELS[:, ::2, ::2]), "array of shape (2, 16, 24, 3): expec"),
        (Sample(IMAGES[:, :, :-1], LABELS), "expected [B, 32, 48, 3], as its describe says."),
        (Sample(IMAGES[..., 0], LABELS), "array of shape (2, 32, 48): expected [B, 32, 48, 3]"),
        (Sample(IMAGES[..., :1], LABELS), "(2, 32, 48, 1): expected [B, 32, 48, 3]"),
        (Sample([1], LABELS), "returns images that are list: expected [B, 32, 48, 3]"),
        (Sample(IMAGES), "returns no labels, and its describe says that the images have labels"),
        (Sample(IMAGES, LABELS[..., None]), "labels that are an array of shape (2, 32, 48, 1)"),
        (Sample(IMAGES, LABELS[:1]), "labels that are an array of shape (1, 32, 48): expected"),
        (Sample(IMAGES, LABELS, zeros(2)), "weights that are an array of shape (2,): expected"),
        ((IMAGES, LABELS), "returns tuple: expected Sample of alp_jax.data.samples."),
    ],
)
def test_a_view_makes_what_it_describes(sample, message):
    batch = tiny.make_batch()
    found = refusal(lambda: checks.check_sample(Described(name="mine"), sample, batch, ("main",)))
    assert found
    assert found.startswith("The make of config.views.mine returns ")
    assert message in found


def test_a_view_that_makes_what_it_describes_passes():
    sample = Sample(IMAGES, LABELS, LABELS)
    assert checks.check_sample(Described(name="mine"), sample, tiny.make_batch(), ()) is sample


@dataclasses.dataclass(frozen=True)
class Halves(Placement):
    """Has patches of half the map."""

    def take(self, logits, size, key):
        return logits

    def get_patch_size(self, name, view, size):
        return size[0] // 2, size[1] // 2


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        (None, "returns NoneType: expected the shape [2 * P, 16, 24, 5]"),
        ([zeros(2, 16, 24, 5)], "returns list: expected"),
        ((zeros(2, 16, 24, 5), 1), "returns tuple: expected"),
        (zeros(2, 32, 48, 5), "returns an array of shape (2, 32, 48, 5): expected"),
        (zeros(3, 16, 24, 5), "returns an array of shape (3, 16, 24, 5): expected"),
        (zeros(2, 16, 24, 4), "returns an array of shape (2, 16, 24, 4): expected"),
        (zeros(2, 16, 24), "returns an array of shape (2, 16, 24): expected"),
    ],
)
def test_a_placement_takes_patches_of_its_size(taken, message):
    logits = jnp.zeros((2, 8, 12, 5))
    found = refusal(lambda: checks.check_patches(Halves(), taken, logits, SIZE, "config.p"))
    assert found
    assert found.startswith("The take of config.p returns ")
    assert message in found
    checks.check_patches(Halves(), zeros(6, 16, 24, 5), logits, SIZE, "config.p")


@pytest.mark.parametrize("size", [None, 16, (16,), (16.0, 24), [16, 24, 3], "ab"])
def test_the_size_of_patches_is_two_whole_numbers(size):
    with pytest.raises(UserError, match=r"get_patch_size of config\.p returns .*: expected \(hei"):
        checks.check_patch_size(size, "config.p")


# In files of a user's own.

VIEW = """
    import dataclasses
    from alp_jax.objective.types import View

    @dataclasses.dataclass(frozen=True)
    class Small(View):
        domains = ("source",)

        def make(self, batch, key):
            sample = batch["source"]
            return sample._replace(images=sample.images[:, ::2], labels=sample.labels[:, ::2])

        def describe(self, name, surroundings):
            return surroundings.sizes["source"], True

    VIEW = Small
"""
PLACEMENT = """
    import dataclasses
    from alp_jax.objective.types import Placement

    @dataclasses.dataclass(frozen=True)
    class Nothing(Placement):
        def take(self, logits, size, key):
            return {"patches": logits}

        def get_patch_size(self, name, view, size):
            return size

    PLACEMENT = Nothing
"""
TERM = """
    import dataclasses
    from alp_jax.objective.types import Contribution, Term
    from alp_jax.settings.schema import setting

    @dataclasses.dataclass(frozen=True)
    class Wrong(Term):
        value: float = setting({default}, "A number.", at_least=0)
        views = ("source",)
        heads = ("main", "side")

        def loss(self, seen):
            return Contribution()

    TERM = Wrong
"""


def write(folder: pathlib.Path, name: str, text: str) -> str:
    (folder / name).write_text(textwrap.dedent(text))
    return str(folder / name)


def trace(run_config) -> None:
    setup = assembly.create_setup(build_settings(run_config))
    key, batch = jax.random.key(0), tiny.make_batch()
    state = jax.eval_shape(lambda: assembly.create_train_state(setup, key))
    jax.eval_shape(lambda s: step.train_step(s, batch, key, setup=setup), state)


def test_a_step_with_wrong_images_or_patches_is_not_compiled(tmp_path):
    run_config = tiny.get_config(pathlib.Path("unused"))
    with run_config.unlocked():
        run_config.views.source = view(write(tmp_path, "small.py", VIEW))
    with pytest.raises(UserError, match=r"make of config\.views\.source returns images that are"):
        trace(run_config)
    run_config = tiny.get_config(pathlib.Path("unused"))
    with run_config.unlocked():
        path = write(tmp_path, "nothing.py", PLACEMENT)
        run_config.terms.adversarial.patches = placement(path)
    with pytest.raises(UserError, match=r"take of config\.terms\.adversarial\.patches returns dic"):
        trace(run_config)


def test_a_head_of_no_field_is_not_blamed_on_one(tmp_path):
    run_config = tiny.get_config(pathlib.Path("unused"))
    with run_config.unlocked():
        run_config.terms.mine = term(write(tmp_path, "mine.py", TERM.format(default=1.0)))
    expected = r"^A head that config\.terms\.mine reads is 'side': expected a head of the network:"
    with pytest.raises(UserError, match=expected):
        build_settings(run_config)


def test_a_wrong_default_is_blamed_on_its_own_file(tmp_path):
    path = write(tmp_path, "mine.py", TERM.format(default=-1.0))
    method = (
        "from alp_jax.objective.settings import term\n\n"
        f"def apply(config):\n    config.terms.mine = term({path!r})\n"
    )
    method_path = write(tmp_path, "method.py", method)
    message = refusal(lambda: tiny.get_config(pathlib.Path("unused"), method_path))
    assert message == (
        f"In {path}: The default of Wrong.value is -1.0: expected at least 0, and finite."
    )
