"""Questions asked of every kind of teacher; a new file needs no entry here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.objective import step
from alp_jax.objective.teacher import Taught, TeacherState
from alp_jax.settings import kinds, schema
from tests import tiny
from tests.objective import methods

PACKAGE = ("alp_jax.objective.teachers", "TEACHER")
THRESHOLDS = np.full(16, 0.5, np.float32)


def build(kind):
    block = schema.new_block(*PACKAGE, kind)
    del block.kind
    return schema.build(kinds.load(PACKAGE[0], kind, PACKAGE[1]), block)


def make_trees():
    rng = np.random.default_rng(0)
    return {"layer": {"kernel": jnp.asarray(rng.standard_normal((3, 4)))}}, {"mean": jnp.ones(4)}


@pytest.mark.parametrize("kind", kinds.names(PACKAGE[0]))
def test_a_state_has_arrays_of_its_own_and_keeps_its_shapes(kind):
    teacher = build(kind)
    params, model_state = make_trees()
    start = teacher.create(params, model_state, 16)
    assert (start is not None) == teacher.is_present
    later = teacher.update(start, params, model_state, jnp.zeros((), jnp.int32))
    begun = teacher.begin_round(later, params, model_state, jnp.asarray(THRESHOLDS))
    held = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, model_state))}
    for found in (start, later, begun):
        shapes = jax.tree.map(jnp.shape, found)
        assert shapes == jax.tree.map(jnp.shape, start)
        if found is not None:
            assert jax.tree.map(jnp.shape, found.params) == jax.tree.map(jnp.shape, params)
            pointers = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(found)}
            assert not pointers & held


def test_the_teacher_of_a_round_is_the_network_that_it_begins_with():
    params, model_state = make_trees()
    teacher = build("round_start")
    begun = teacher.begin_round(None, params, model_state, jnp.asarray(THRESHOLDS))
    jax.tree.map(np.testing.assert_array_equal, begun.params, params)
    jax.tree.map(np.testing.assert_array_equal, begun.model_state, model_state)
    other = jax.tree.map(lambda leaf: leaf + 1, params)
    kept = teacher.update(begun, other, model_state, jnp.ones((), jnp.int32))
    jax.tree.map(np.testing.assert_array_equal, kept, begun)


def test_what_a_teacher_predicts_is_a_constant():
    segmenter = methods.compile_method("source_only").setup.segmenter
    entry = methods.compile_method("source_only").start.segmenter
    images = tiny.make_batch()["target"].images

    def total(params):
        state = TeacherState(params, entry.model_state, THRESHOLDS)
        taught = Taught(segmenter, state, 0.25)
        logits = taught.predict(images)
        assert logits.shape == (*images.shape[:3], segmenter.num_classes)
        return jnp.sum(logits**2)

    value, gradient = jax.jit(jax.value_and_grad(total))(entry.params)
    assert value > 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_a_view_that_wants_a_teacher_refuses_a_state_without():
    method = methods.compile_method("lrent")
    with pytest.raises(ValueError, match="needs a state with a teacher"):
        step.train_step(
            method.start.replace(teacher=None), method.batch, methods.RNG, setup=method.setup
        )
