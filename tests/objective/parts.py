"""Makes up what views and terms look at, for tests of every kind without an entry for any.

for variant in list_variants("terms"):
    term = build(variant)                # at its smallest sizes
    seen = make_seen(term, "source")
"""

import dataclasses
import functools
import types
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from alp_jax.data.samples import Batch, Sample
from alp_jax.models import MAIN
from alp_jax.models.segmenter import Outputs
from alp_jax.objective import settings as objective_settings
from alp_jax.objective.types import Seen, Term, View
from alp_jax.self_training.settings import SELF_TRAINING
from alp_jax.settings import kinds, schema
from configs import default
from tests.objective import methods

PACKAGES = {
    "views": ("alp_jax.objective.views", "VIEW"),
    "terms": ("alp_jax.objective.terms", "TERM"),
    "placements": ("alp_jax.objective.placements", "PLACEMENT"),
}
BATCH_SIZE, NUM_CLASSES = 2, 3
SIZE, COARSE_SIZE = (12, 16), (4, 5)
DOMAINS = ("source", "target", SELF_TRAINING)
# Wherever a block has such a field.
SMALL = {
    "widths": (3,),
    "patch_size": (8, 8),
    "num_patches": 2,
    "size": (8, 8),
    "num_crops": 2,
    "beta": 0.25,
    "class_shares": (0.6, 0.3, 0.1),
    "after_step": -1,
}
# Choices that need others: (field, choice) -> (other field, its value or kind).
NEEDED = {
    ("pixel_weights", "disagreement"): (("head", "main+second"), ("decision", "pixel")),
    ("discriminators", "per_patch"): (("patches", "grid"),),
}
# Choices that single precision is no test of.
NOT_VARIED = ("activation_dtype",)


class Variant(NamedTuple):
    """A kind with another choice for one of its fields, or none."""

    package: str
    kind: str
    field: str = ""
    choice: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.kind, self.field, self.choice)))


def list_variants(package: str) -> list[Variant]:
    """Lists every kind in a package, with its defaults and with each other choice of each field."""
    folder, attribute = PACKAGES[package]
    variants = []
    for kind in kinds.names(folder):
        variants.append(Variant(package, kind))
        cls = kinds.load(folder, kind, attribute)
        block = schema.new_block(folder, attribute, kind)
        for field, found in schema.get_fields(cls).items():
            default_choice, choices = block[field], found.declared.choices
            if found.declared.package and not found.declared.named:
                default_choice, choices = block[field].kind, kinds.names(found.declared.package)
            if field not in NOT_VARIED:
                others = [str(choice) for choice in choices if choice != default_choice]
                variants += [Variant(package, kind, field, choice) for choice in others]
    return variants


@dataclasses.dataclass(frozen=True)
class _Parts:
    views: dict[str, Any] = objective_settings.declare_views()
    terms: dict[str, Any] = objective_settings.declare_terms()


def build(variant: Variant) -> Any:
    """Builds a view or term at its smallest sizes, as a configuration would."""
    folder, attribute = PACKAGES[variant.package]
    block = schema.new_block(folder, attribute, variant.kind)
    declared = schema.get_fields(kinds.load(folder, variant.kind, attribute))
    chosen = NEEDED.get((variant.field, variant.choice), ())
    for field, choice in (*chosen, (variant.field, variant.choice)):
        if field and isinstance(block[field], ml_collections.ConfigDict):
            found = declared[field].declared
            block[field] = schema.new_block(found.package, found.attribute, choice)
        elif field:
            block[field] = choice
    default.set_everywhere(block, **SMALL)
    if variant.package == "placements":
        del block.kind
        return schema.build(kinds.load(folder, variant.kind, attribute), block)
    fields = {"views": {}, "terms": {}} | {variant.package: {variant.kind: block}}
    return getattr(schema.build(_Parts, fields), variant.package)[variant.kind]


def make_sample(view: str, *, labels: bool = True) -> Sample:
    """Makes images whose pixels tell their place, and labels of which some are ignored."""
    rng = np.random.default_rng(zlib.crc32(view.encode()))
    shape = (BATCH_SIZE, *SIZE)
    image, row, column = np.indices(shape)
    drawn = rng.choice([*range(NUM_CLASSES), 255], shape).astype(np.uint8)
    images = np.stack([image, row, column], axis=-1).astype(np.uint8)
    from_target = np.arange(BATCH_SIZE) % 2 == 0 if view == SELF_TRAINING else None
    return Sample(images, drawn if labels else None, from_target=from_target)


def make_view(view: View, batch: Batch, key: jax.Array) -> Sample:
    """Lets a view make its sample, with a teacher that is unsure if it wants one."""
    if not view.uses_teacher:
        return view.make(batch, key)
    teacher = types.SimpleNamespace(
        predict=lambda images: jnp.zeros((*images.shape[:3], NUM_CLASSES)),
        thresholds=jnp.full(NUM_CLASSES, 0.5),
        temperature=0.25,
    )
    return view.make(batch, key, teacher=teacher)


def make_seen(term: Term, view: str, dtype: type = np.float32) -> Seen:
    """Makes up what a term may look at in one of its views."""
    rng = np.random.default_rng(1 + zlib.crc32(view.encode()))

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(2 * rng.standard_normal((BATCH_SIZE, *shape)), dtype)

    heads = term.heads or (MAIN,)
    outputs = Outputs(
        {head: draw(*COARSE_SIZE, NUM_CLASSES) for head in heads},
        (draw(6, 8, 4), draw(*COARSE_SIZE, 8)),
    )
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), _draw_params())
    own = None
    if term.owns_parameters:
        created = term.create(jax.random.key(3), NUM_CLASSES)
        own = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), created)
    key, step = jax.random.key(5), jnp.zeros((), jnp.int32)
    soft_labels = rng.dirichlet(np.ones(NUM_CLASSES), (BATCH_SIZE, *SIZE)).astype(dtype)
    from_target = np.arange(BATCH_SIZE) % 2 == 0
    sample = make_sample(view)._replace(soft_labels=soft_labels, from_target=from_target)
    return Seen(view, outputs, sample, key, params, own, step)


@functools.cache
def _draw_params() -> Any:
    """Draws parameters of a network with the heads main, aux and second."""
    params = methods.compile_method("advent").start.segmenter.params
    rng = np.random.default_rng(2)
    second = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), params["classifier"])
    return {**params, "second_classifier": second}


def encode_place(images: np.ndarray) -> np.ndarray:
    """Reads which pixel of the batch each pixel of images from `make_sample` is."""
    image, row, column = np.moveaxis(np.rint(images).astype(int), -1, 0)
    return np.ravel_multi_index((image, row, column), (BATCH_SIZE, *SIZE))
