"""Questions asked of every kind of term, view and placement; a new file needs no entry here."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alp_jax.errors import UserError
from alp_jax.models import MAIN
from alp_jax.objective import losses, patches
from alp_jax.objective.settings import check_objective
from alp_jax.objective.terms.alignment import Aligned
from alp_jax.objective.types import Surroundings
from tests import reference
from tests.objective import parts
from tests.objective.parts import Variant
from tests.refusals import refusal

TERMS = parts.list_variants("terms")
OWNERS = [variant for variant in TERMS if parts.build(variant).owns_parameters]
VIEWS = parts.list_variants("views")
PLACEMENTS = parts.list_variants("placements")
CROSS_ENTROPY, ALIGNMENT = Variant("terms", "cross_entropy"), Variant("terms", "alignment")

each_term = pytest.mark.parametrize("variant", TERMS, ids=str)


def see(term, dtype=np.float32):
    """Lets a term look at all of its views: view -> what it sees."""
    return {view: parts.make_seen(term, view, dtype) for view in term.views}


def assert_finite_differences(function, tree) -> None:
    """Compares the slope of a function of arrays along random directions with its gradient's."""
    evaluate = jax.jit(jax.value_and_grad(function))
    tree = jax.device_get(tree)  # NumPy moves it without compiling.
    gradient = jax.device_get(evaluate(tree)[1])
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient))
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), tree)

        def move(distance, direction=direction):
            moved = jax.tree.map(lambda x, d: x + distance * d, tree, direction)
            return float(evaluate(moved)[0])

        slope = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, direction)))
        # Small steps seldom cross the kink of an activation.
        numeric = (move(1e-7) - move(-1e-7)) / 2e-7
        assert float(slope) == pytest.approx(numeric, rel=1e-5, abs=1e-7)


@each_term
def test_the_gradient_of_the_loss_equals_finite_differences(variant):
    term = parts.build(variant)
    num_losses = 0
    with jax.enable_x64(True):
        for seen in see(term, np.float64).values():
            if jax.eval_shape(lambda seen=seen: term.loss(seen).loss) is not None:
                num_losses += 1
                assert_finite_differences(
                    lambda held, seen=seen: (
                        term.loss(seen._replace(outputs=held[0], params=held[1])).loss
                    ),
                    (seen.outputs, seen.params),
                )
    assert num_losses > 0


@pytest.mark.parametrize("variant", OWNERS, ids=str)
def test_the_gradient_of_what_it_owns_equals_finite_differences(variant):
    term = parts.build(variant)
    with jax.enable_x64(True):
        views = see(term, np.float64)
        kept = {view: term.loss(seen).kept for view, seen in views.items()}
        own = views[term.views[0]].own
        assert_finite_differences(lambda own: term.own_loss(own, kept)[0], own)


@each_term
def test_weights_of_1_change_nothing_and_other_weights_scale_or_are_not_read(variant):
    term = parts.build(variant)
    for seen in see(term).values():
        value = term.loss(seen).loss
        if value is None:
            continue

        def weigh(weight, seen=seen):
            weights = np.full((parts.BATCH_SIZE, *parts.SIZE), weight, np.float32)
            sample = seen.sample._replace(weights=weights)
            return float(term.loss(seen._replace(sample=sample)).loss)

        assert weigh(1.0) == float(value)
        is_read = weigh(0.0) != float(value)
        assert weigh(0.0) == (0.0 if is_read else float(value))
        assert weigh(2.0) == pytest.approx((1 + is_read) * float(value), rel=1e-6)


@each_term
def test_without_labels_or_with_certain_predictions_all_is_finite(variant):
    term = parts.build(variant)
    for seen in see(term).values():
        sample = seen.sample._replace(labels=np.full_like(seen.sample.labels, 255))
        certain = jax.tree.map(lambda leaf: 1e4 * leaf, seen.outputs)
        for changed in (seen._replace(sample=sample), seen._replace(outputs=certain)):
            found = term.loss(changed)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found)), seen.view


@each_term
def test_what_is_drawn_of_a_term_is_logged_by_it(variant):
    term = parts.build(variant)
    views = see(term)
    contributions = {view: term.loss(seen) for view, seen in views.items()}
    logged = {name for found in contributions.values() for name in found.scalars}
    if term.owns_parameters:
        kept = {view: found.kept for view, found in contributions.items()}
        logged |= term.own_loss(views[term.views[0]].own, kept)[1].keys()
    assert {name for curve in term.curves for name in curve.scalars} <= logged
    assert all(name.count("/") == 1 for name in logged)


@each_term
def test_a_run_that_it_does_not_fit_is_refused_in_one_sentence(variant):
    term = parts.build(variant)
    name = f"config.terms.{term.name}"
    term.check_fit(
        name,
        Surroundings(
            dict.fromkeys(term.views, parts.SIZE), term.heads or (MAIN,), frozenset(term.views)
        ),
    )
    unfit = Surroundings(dict.fromkeys(term.views, (1, 1)), (), frozenset())
    message = refusal(lambda: term.check_fit(name, unfit))
    assert message is None or (message.startswith(name) and ": expected" in message)


def check(term, **changed):
    """Checks a term beside what every objective needs."""
    views = {name: parts.build(Variant("views", "images")) for name in term.views}
    arguments = {
        "sizes": dict.fromkeys(("source", "target"), parts.SIZE),
        "heads": (MAIN,),
        "has_statistics": False,
    }
    check_objective(changed.pop("views", views), {term.name: term}, "config", **arguments | changed)


@each_term
def test_a_view_or_head_that_is_not_there_is_named(variant):
    term = parts.build(variant)
    with pytest.raises(UserError, match=rf"^config.terms.{term.name} reads the view \w+, which"):
        check(term, views={})
    if term.heads:
        with pytest.raises(
            UserError, match=rf"^(config.terms.{term.name}.head|A .*) is 'main': expec"
        ):
            check(term, heads=("other",))


def test_two_terms_cannot_have_their_parameters_in_one_place():
    """A discriminator of the term "adversarial" is "main" in the state."""
    terms = {
        name: dataclasses.replace(parts.build(ALIGNMENT), name=name)
        for name in ("adversarial", "main")
    }
    views = {name: parts.build(Variant("views", "images")) for name in ("source", "target")}
    message = refusal(
        lambda: check_objective(
            views,
            terms,
            "config",
            sizes=dict.fromkeys(views, parts.SIZE),
            heads=(MAIN,),
            has_statistics=False,
        )
    )
    assert message == (
        "The name of config.terms.main is 'main': expected another, as the parameters of "
        "config.terms.adversarial are kept under 'main'."
    )


# Cross-entropy -----------------------------------------------------------------------------------


def test_cross_entropy_is_pytorchs_weighed_and_averaged_over_labelled_pixels():
    term = parts.build(CROSS_ENTROPY)
    seen = parts.make_seen(term, "source")
    weights = np.random.default_rng(2).uniform(0, 2, seen.sample.labels.shape).astype(np.float32)
    found = term.loss(seen._replace(sample=seen.sample._replace(weights=weights)))
    logits = torch.from_numpy(np.array(seen.outputs.logits[MAIN]).transpose(0, 3, 1, 2))
    upsampled = F.interpolate(logits, parts.SIZE, mode="bilinear", align_corners=True)
    labels = torch.from_numpy(seen.sample.labels).long()
    each = F.cross_entropy(upsampled, labels, reduction="none", ignore_index=255)
    expected = (each * torch.from_numpy(weights)).sum() / (labels != 255).sum()
    assert float(found.loss) == pytest.approx(float(expected), rel=1e-5)
    assert found.scalars == {"loss/cross_entropy": found.loss}


def test_cross_entropy_on_a_view_without_labels_is_refused():
    with pytest.raises(
        UserError, match=r"config.terms.x.view is 'source': expected a view with labels: none\."
    ):
        parts.build(CROSS_ENTROPY).check_fit(
            "config.terms.x", Surroundings({"source": (8, 8)}, (MAIN,), frozenset())
        )


# Alignment ---------------------------------------------------------------------------------------


def find_corners(placement, key) -> np.ndarray:
    """Finds the top-left corners of patches: [B, P, 2]."""
    if hasattr(placement, "patch_size"):
        return np.asarray(
            patches.sample_offsets(
                key, parts.BATCH_SIZE, parts.SIZE, placement.patch_size, placement.num_patches
            )
        )
    rows, columns = getattr(placement, "rows", 1), getattr(placement, "columns", 1)
    height, width = parts.SIZE
    corners = [
        (height * row // rows, width * column // columns)
        for row in range(rows)
        for column in range(columns)
    ]
    return np.array([corners] * parts.BATCH_SIZE)


def expect_game(term, views) -> dict[str, float]:
    """Computes both players' losses in numpy."""
    compute_map = {
        "logits": lambda logits: logits,
        "softmax": reference.softmax,
        "self_information": reference.self_information,
        "normalized_self_information": lambda x: (
            reference.self_information(x) / np.log(parts.NUM_CLASSES)
        ),
    }[term.aligned_map]
    decisions, weights = {}, None
    for view, seen in views.items():
        taken = [_take(term, seen, head) for head in term.heads]
        maps = compute_map(sum(taken))
        if view == "target" and len(taken) == 2:
            first, second = map(reference.softmax, taken)
            lengths = np.sqrt((first**2).sum(-1)) * np.sqrt((second**2).sum(-1))
            weights = 0.4 + 40 * (1 - (first * second).sum(-1) / lengths)[..., None]
        decided = _decide(term, jax.device_get(seen.own), maps)
        if term.decision == "patch":
            decided = decided.mean(axis=(1, 2))
        if term.decision == "pixel":
            decided = reference.upsample(decided, maps.shape[1:3])
        decisions[view] = decided
    source, target = decisions.values()
    score, threshold = reference.binary_cross_entropy, 0.0
    if term.game == "least_squares":
        score, threshold = lambda found, domain: (found - domain) ** 2, 0.5
    weights = 1.0 if weights is None else weights
    source_loss = np.mean(score(source, losses.SOURCE_LABEL))
    target_loss = np.mean(weights * score(target, losses.TARGET_LABEL))
    if term.game == "minimax":
        played, share = -source_loss - target_loss, 1.0
    else:
        played, share = np.mean(weights * score(target, losses.SOURCE_LABEL)), 0.5
    return {
        "loss/alignment": played,
        "loss/discriminator_alignment": share * (source_loss + target_loss),
        "loss/discriminator_source_alignment": source_loss,
        "loss/discriminator_target_alignment": target_loss,
        "discriminator_accuracy/source_alignment": np.mean(source <= threshold),
        "discriminator_accuracy/target_alignment": np.mean(target > threshold),
    }


def _take(term, seen, head: str) -> np.ndarray:
    """Upsamples a head's logits and cuts the term's patches out of them."""
    whole = reference.upsample(np.asarray(seen.outputs.logits[head], np.float64), parts.SIZE)
    height, width = term.patches.get_patch_size("patches", seen.view, parts.SIZE)
    return np.stack(
        [
            whole[image, y : y + height, x : x + width]
            for image, corners in enumerate(find_corners(term.patches, seen.key))
            for y, x in corners
        ]
    )


def _decide(term, own, maps: np.ndarray) -> np.ndarray:
    """Asks the discriminator, or that of each patch's place."""
    if term.discriminators == "shared":
        return reference.discriminate(own, maps)
    places = len(maps) // parts.BATCH_SIZE
    return np.concatenate(
        [
            reference.discriminate(
                jax.tree.map(lambda leaf, place=i % places: leaf[place], own), patch[None]
            )
            for i, patch in enumerate(maps)
        ]
    )


@pytest.mark.parametrize("variant", [v for v in TERMS if v.kind == "alignment"], ids=str)
def test_the_game_is_that_of_numpy(variant):
    term = parts.build(variant)
    views = see(term)
    contributions = {view: term.loss(seen) for view, seen in views.items()}
    kept = {view: found.kept for view, found in contributions.items()}
    own_loss, scalars = term.own_loss(views["source"].own, kept)
    found = dict(scalars)
    for contribution in contributions.values():
        for name, value in contribution.scalars.items():
            found[name] = found.get(name, 0) + value
    expected = expect_game(term, views)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )
    assert float(own_loss) == float(scalars["loss/discriminator_alignment"])


def test_both_players_share_what_the_discriminator_says_of_the_target():
    """In one program the target's decisions are computed once, for two gradients."""
    term = parts.build(Variant("terms", "alignment", "patches", "whole"))
    seen = parts.make_seen(term, "target")
    shape = (parts.BATCH_SIZE, *parts.SIZE, parts.NUM_CLASSES)
    source = Aligned(jax.ShapeDtypeStruct(shape, jnp.float32), None)

    def look(own, outputs):
        return term.loss(seen._replace(own=own, outputs=outputs))

    def play_segmenter(own, outputs, source):
        return jax.grad(lambda outputs: look(own, outputs).loss)(outputs)

    def play_discriminator(own, outputs, source):
        kept = {"source": source, "target": look(own, outputs).kept}
        return jax.grad(lambda own: term.own_loss(own, kept)[0])(own)

    def count_flop(*players):
        def play(*arguments):
            return [player(*arguments) for player in players]

        compiled = jax.jit(play).lower(seen.own, seen.outputs, source).compile()
        return compiled.cost_analysis()["flops"]

    def decide(own, outputs, source):
        return look(own, outputs).loss

    alone = count_flop(play_segmenter) + count_flop(play_discriminator)
    shared = alone - count_flop(play_segmenter, play_discriminator)
    assert shared > 0.9 * count_flop(decide)


@pytest.mark.parametrize("decision", ["cell", "patch"])
def test_a_map_too_small_for_the_discriminator_is_an_error_and_not_a_nan(decision):
    term = parts.build(Variant("terms", "alignment", "decision", decision))
    seen = parts.make_seen(term, "target")
    tiny = seen.sample._replace(images=seen.sample.images[:, :3, :3])
    whole = parts.build(Variant("terms", "alignment", "patches", "whole"))
    term = dataclasses.replace(term, patches=whole.patches)
    with pytest.raises(ValueError, match="gave no decision"):
        term.loss(seen._replace(sample=tiny))


# Views and placements ----------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VIEWS, ids=str)
def test_a_view_takes_images_labels_and_weights_from_the_same_places(variant):
    view = parts.build(variant)
    batch = {}
    for domain in parts.DOMAINS:
        sample = parts.make_sample(domain)
        place = parts.encode_place(sample.images)
        batch[domain] = sample._replace(labels=place % 251, weights=place / 7)
    found = parts.make_view(view, batch, jax.random.key(0))
    place = parts.encode_place(found.images)
    np.testing.assert_array_equal(found.labels, place % 251)
    np.testing.assert_allclose(found.weights, place / 7, rtol=1e-6)
    labelled = frozenset(parts.DOMAINS) - {"target"}
    surroundings = Surroundings(dict.fromkeys(parts.DOMAINS, parts.SIZE), (MAIN,), labelled)
    size, is_labelled = view.describe("config.views.x", surroundings)
    assert found.images.shape[1:] == (*size, 3)
    assert is_labelled == bool(labelled & set(view.domains))


@pytest.mark.parametrize("variant", VIEWS, ids=str)
def test_a_view_of_images_without_labels_has_none(variant):
    view = parts.build(variant)
    if parts.SELF_TRAINING in view.domains:  # Its images always have labels.
        return
    batch = {domain: parts.make_sample(domain, labels=False) for domain in ("source", "target")}
    found = view.make(batch, jax.random.key(0))
    assert found.labels is None
    assert found.weights is None


@pytest.mark.parametrize("variant", VIEWS, ids=str)
def test_a_view_depends_on_its_key_only_if_it_says_so(variant):
    view = parts.build(variant)
    batch = {domain: parts.make_sample(domain) for domain in parts.DOMAINS}
    found, again, *others = (
        np.asarray(parts.make_view(view, batch, jax.random.key(seed)).images)
        for seed in (0, 0, 1, 2)
    )
    np.testing.assert_array_equal(found, again)
    assert any(not np.array_equal(found, other) for other in others) == view.is_random


@pytest.mark.parametrize("variant", VIEWS, ids=str)
def test_images_too_small_for_a_view_are_refused_in_one_sentence(variant):
    view = parts.build(variant)
    sizes = dict.fromkeys(("source", "target"), (2, 2))
    surroundings = Surroundings(sizes, (MAIN,), frozenset())
    message = refusal(lambda: view.describe("config.views.x", surroundings))
    if message is None:
        size, _ = view.describe("config.views.x", surroundings)
        assert max(size) <= 2
    else:
        assert message.startswith("config.views.x.")


def test_views_of_different_names_have_different_keys():
    images = type(parts.build(Variant("views", "images")))
    names = ["source", "target", "mixed", "masked", "other"]
    roles = [images(name=name).role for name in names]
    assert roles[:2] == [0, 1]
    assert len(set(roles)) == len(names)


@pytest.mark.parametrize("variant", PLACEMENTS, ids=str)
def test_patches_are_slices_of_the_upsampled_map(variant):
    placement = parts.build(variant)
    logits = np.random.default_rng(0).standard_normal((parts.BATCH_SIZE, *parts.COARSE_SIZE, 3))
    whole = reference.upsample(logits, parts.SIZE)
    found = np.asarray(placement.take(jnp.asarray(logits), parts.SIZE, jax.random.key(0)))
    height, width = placement.get_patch_size("config.x", "source", parts.SIZE)
    assert found.shape[1:] == (height, width, 3)
    places = list(
        itertools.product(range(parts.SIZE[0] - height + 1), range(parts.SIZE[1] - width + 1))
    )
    for patch, image in zip(found, np.repeat(whole, len(found) // len(whole), axis=0), strict=True):
        assert any(
            np.allclose(patch, image[y : y + height, x : x + width], atol=1e-5) for y, x in places
        )


@pytest.mark.parametrize("variant", PLACEMENTS, ids=str)
def test_a_map_too_small_for_patches_is_refused_in_one_sentence(variant):
    placement = parts.build(variant)
    message = refusal(lambda: placement.get_patch_size("config.x", "source", (2, 2)))
    if message is None:
        assert max(placement.get_patch_size("config.x", "source", (2, 2))) <= 2
    else:
        assert message.startswith("config.x.")
