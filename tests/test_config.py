"""Configurations: those that there are, what is refused in one, and how a run keeps its own."""

import json
import pathlib

import pytest

from alp_jax.errors import UserError
from alp_jax.models.settings import head
from alp_jax.self_training.settings import list_read
from alp_jax.settings.compare import flatten
from alp_jax.settings.schema import to_config
from alp_jax.workdir import config
from alp_jax.workdir.settings import build_settings
from configs import default, gta5_to_cityscapes, image_folders, synthia_to_cityscapes, toy_cities

PAPER = {"gta5": gta5_to_cityscapes, "synthia": synthia_to_cityscapes}
METHODS = default.list_methods()
TOY_VARIANTS = (*METHODS, toy_cities.EQUAL_PIXELS, *toy_cities.WARMUPS)
# Of the paper, whose networks and optimizers are the same.
PAPERS_METHODS = ("source_only", "target_bn", "ap_ci", "agp_gi", "alp_gi")


def get_default(variant: str = "alp_gi", **fields):
    """The default configuration with some fields changed; dots are written as __."""
    run_config = default.get_config(variant)
    with run_config.unlocked():
        run_config.update_from_flattened_dict(
            {name.replace("__", "."): value for name, value in fields.items()}
        )
    return run_config


@pytest.mark.parametrize("variant", METHODS)
@pytest.mark.parametrize("module", [default, image_folders, *PAPER.values()])
def test_every_method_is_valid_in_every_configuration(module, variant):
    run_config = module.get_config(variant)
    settings = build_settings(run_config)
    domains = [domain for view in settings.views.values() for domain in view.domains]
    assert ("target" in list_read(domains)) == (variant != "source_only")
    assert run_config.is_locked


@pytest.mark.parametrize("variant", TOY_VARIANTS)
def test_the_built_in_configurations_are_valid(variant):
    build_settings(toy_cities.get_config(variant))


@pytest.mark.parametrize("variant", PAPERS_METHODS)
@pytest.mark.parametrize(
    ("module", "source_size", "label_set"),
    [
        (gta5_to_cityscapes, [720, 1280], "cityscapes_19"),
        (synthia_to_cityscapes, [760, 1280], "cityscapes_16"),
    ],
    ids=PAPER,
)
def test_the_papers_experiments_have_the_numbers_of_section_4_1(
    variant, module, source_size, label_set
):
    fields = flatten(module.get_config(variant))
    expected = {
        "data.source_size": source_size,
        "data.target_size": [512, 1024],
        "data.label_set": label_set,
        "data.batch_size": 1,
        "num_steps": 150_000,
        "optimizer.segmenter_learning_rate": 2.5e-4,
        "optimizer.discriminator_learning_rate": 1e-4,
        "model.backbone.depths": [3, 4, 23, 3],
        "model.backbone.batch_norm_mode": "running",
        "model.heads.main.stage": -1,
    }
    if variant in ("ap_ci", "agp_gi", "alp_gi"):
        expected |= {
            "terms.adversarial.weight": 0.001,
            "terms.adversarial.aligned_map": "self_information",
        }
    if variant == "alp_gi":
        expected["terms.adversarial.patches.patch_size"] = [256, 256]
    if variant == "ap_ci":
        expected |= {f"views.{domain}.size": [256, 256] for domain in ("source", "target")}
    assert {name: fields[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("module", "aux_classifier", "num_steps", "horizon_steps"),
    [(gta5_to_cityscapes, True, 120_000, 250_000), (synthia_to_cityscapes, False, 90_000, 90_000)],
    ids=PAPER,
)
def test_advent_has_the_numbers_of_its_published_code(
    module, aux_classifier, num_steps, horizon_steps
):
    run_config = module.get_config("advent")
    build_settings(run_config)
    assert ("aux" in run_config.model.heads) == aux_classifier
    assert run_config.model.backbone.batch_norm_mode == "batch"
    assert run_config.num_steps == num_steps
    assert run_config.optimizer.horizon_steps == horizon_steps
    terms = run_config.terms
    assert terms.adversarial.aligned_map == "normalized_self_information"
    assert terms.adversarial.patches.kind == "whole"
    weights = {name: terms[name].weight for name in terms if name.endswith("_aux")}
    expected = {"cross_entropy_aux": 0.1, "adversarial_aux": 2e-4}
    assert weights == (expected if aux_classifier else {})


def test_other_methods_have_the_numbers_of_their_published_code():
    found = {
        method: gta5_to_cityscapes.get_config(method)
        for method in ("adaptsegnet", "minent", "minent_er", "minent_cp", "fda", "road")
    }
    steps = {name: (c.num_steps, c.optimizer.horizon_steps) for name, c in found.items()}
    advents = dict.fromkeys(("minent", "minent_er", "minent_cp"), (120_000, 250_000))
    papers = dict.fromkeys(("adaptsegnet", "road"), (150_000, 250_000))
    assert steps == advents | papers | {"fda": (100_000, 150_000)}
    for name in ("minent", "minent_er", "minent_cp", "adaptsegnet"):
        terms = found[name].terms
        aux = {term.weight for key, term in terms.items() if key.endswith("_aux")}
        assert {term.weight for term in terms.values()} == {1.0, 0.001} | aux
        assert aux == {0.1, 0.0002}
        assert found[name].model.backbone.batch_norm_mode == "batch"
    assert found["minent_er"].terms.entropy_aux.top_share == 0.3
    fda = found["fda"]
    assert (fda.views.source.kind, fda.views.source.beta) == ("fourier", 0.01)
    assert dict(fda.terms.entropy) == {
        "kind": "entropy", "weight": 0.005, "exponent": 2.0, "resolution": "logits",
        "top_share": 1.0, "view": "target", "head": "main", "damping_steps": 0,
    }  # fmt: skip


def test_the_demo_leaves_what_a_method_aligns():
    kinds = {
        method: toy_cities.get_config(method).terms.adversarial.aligned_map
        for method in ("adaptsegnet", "advent", "alp_gi")
    }
    normalized = "normalized_self_information"
    assert kinds == {"adaptsegnet": "softmax", "advent": normalized, "alp_gi": normalized}


@pytest.mark.parametrize("module", [gta5_to_cityscapes, toy_cities])
def test_methods_of_the_paper_differ_only_in_views_and_terms(module):
    flat = {variant: flatten(module.get_config(variant)) for variant in PAPERS_METHODS}
    more = {
        "ap_ci": {"start_variant", "init_from"},  # Never sees a whole image.
        "target_bn": {"model.backbone.batch_norm_mode"},  # Nothing else would adapt.
    }
    for variant, fields in flat.items():
        for name in fields.keys() - more.get(variant, set()):
            if not name.startswith(("views.", "terms.")):
                assert fields[name] == flat["alp_gi"][name], (variant, name)


def test_crops_of_equal_pixels_cover_an_image():
    run_config = toy_cities.get_config("ap_ci_equal_pixels")
    view = run_config.views.source
    height, width = view.size
    source_height, source_width = run_config.data.source_size
    assert view.num_crops * height * width == source_height * source_width
    assert run_config.views.target.num_crops == view.num_crops
    start = toy_cities.get_config(run_config.start_variant)
    assert start.views.source == view


@pytest.mark.parametrize("module", [default, toy_cities, image_folders, *PAPER.values()])
def test_an_unknown_variant_lists_those_there_are(module):
    with pytest.raises(
        ValueError, match=r"'alp' \(did you mean alp_gi\?\): expected one of .*alp_gi"
    ):
        module.get_config("alp")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"data.label_set": "cityscapes_17"},
            "data.label_set is 'cityscapes_17': expected one of camvid_11, cityscapes_13, "
            r"cityscapes_16, cityscapes_19, idd_lite_7, street_7, or the path of a \.yaml file",
        ),
        ({"data.image_resize": "cubic"}, "'cubic': expected one of bicubic, bilinear"),
        ({"data.batch_size": 0}, "data.batch_size is 0: expected at least 1"),
        ({"data.flip_probability": 1.5}, "data.flip_probability is 1.5: .* at most 1"),
        ({"data.source_size": (720,)}, r"data.source_size is \[720\]: expected \(height, width\)"),
        ({"optimizer.momentum": 1.0}, "optimizer.momentum is 1.0: .*below 1"),
        ({"optimizer.horizon_steps": 10}, r"horizon_steps is 10: .*at least num_steps \(150000\)"),
        (
            {"terms.adversarial.game": "zero_sum"},
            "'zero_sum': expected one of non_saturating, least_squares, minimax",
        ),
        ({"terms.adversarial.weight": float("nan")}, "terms.adversarial.weight is nan"),
        ({"terms.adversarial.head": "aux"}, "head is 'aux': expected a head of the network: main"),
        ({"views.target.domain": "both"}, "domain is 'both': expected one of source, target"),
        (
            {"terms.cross_entropy.view": "target"},
            "terms.cross_entropy.view is 'target': expected a view with labels: source",
        ),
        (
            {"terms.adversarial.target_view": "mixed"},
            "terms.adversarial reads the view mixed, which config.views lacks: expected one of "
            "source, target",
        ),
        (
            {"terms.adversarial.patches.patch_size": (600, 256)},
            r"patch_size is \[600, 256\]: expected a patch inside the target map of 512x1024",
        ),
        (
            {"terms.adversarial.patches.patch_size": (31, 256)},
            r"is \[31, 256\]: expected at least 32x32, .* 5 stride-2 layers",
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_is_accepted(fields, message):
    run_config = default.get_config()
    with run_config.unlocked():
        run_config.update_from_flattened_dict(fields)
    with pytest.raises(UserError, match=message):
        build_settings(run_config)


@pytest.mark.parametrize(
    ("variant", "fields", "message"),
    [
        (
            "agp_gi",
            {"data.target_size": (16, 1024)},
            r"the view target is \[16, 1024\]: expected at least 32x32",
        ),
        (
            "ap_ci",
            {"views.source.size": (16, 16), "views.target.size": (16, 16)},
            "expected at least 32x32",
        ),
        (
            "ap_ci",
            {"views.source.size": (256, 2000)},
            r"views.source.size is \[256, 2000\]: expected a crop inside the source image of 720x",
        ),
        (
            "target_bn",
            {"model.backbone.batch_norm_mode": "frozen"},
            r"config.views.target changes nothing: .* follows the images \(running or batch\)",
        ),
    ],
)
def test_a_field_that_does_not_fit_the_method_is_named(variant, fields, message):
    run_config = default.get_config(variant)
    with run_config.unlocked():
        run_config.update_from_flattened_dict(fields)
    with pytest.raises(UserError, match=message):
        build_settings(run_config)


def test_a_head_that_nothing_trains_is_named():
    run_config = default.get_config("alp_gi")
    with run_config.unlocked():
        run_config.model.heads.aux = head("aspp", stage=-2)
    with pytest.raises(UserError, match=r"No term .* trains the network's head aux"):
        build_settings(run_config)


def test_a_method_without_terms_is_refused():
    run_config = default.get_config("source_only")
    with run_config.unlocked():
        del run_config.terms.cross_entropy
    with pytest.raises(UserError, match=r"config\.terms is .*: expected at least one term"):
        build_settings(run_config)


def test_a_missing_field_is_named():
    run_config = default.get_config()
    with run_config.unlocked():
        del run_config.data.batch_size
    with pytest.raises(UserError, match=r"lacks config\.data\.batch_size"):
        build_settings(run_config)


# Kept with a run.


def test_saved_and_loaded_is_the_same_run(tmp_path):
    settings = build_settings(default.get_config())
    config.save(settings, tmp_path / "run")
    config.save(settings, tmp_path / "run")
    loaded = config.load(tmp_path / "run")
    assert loaded == settings
    assert flatten(to_config(loaded)) == flatten(default.get_config())


def test_saved_json_is_plain_and_says_its_format(tmp_path):
    config.save(build_settings(default.get_config()), tmp_path)
    saved = json.loads((tmp_path / config.FILE_NAME).read_text())
    assert saved["format"] == 2
    assert saved["terms"]["adversarial"]["patches"]["patch_size"] == [256, 256]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model__backbone__batch_norm_mode", "frozen"),
        ("data__source", "synthia"),
        ("seed", 3),
        ("terms__adversarial__weight", 0.5),
        ("terms__adversarial__patches__num_patches", 2),
    ],
)
def test_a_workdir_of_another_run_is_refused(tmp_path, field, value):
    config.save(build_settings(default.get_config()), tmp_path)
    other = build_settings(get_default(**{field: value}))
    name = field.replace("__", ".")
    with pytest.raises(UserError, match=f"holds another run: config.{name} is .* {value!r} here"):
        config.save(other, tmp_path)


def test_a_workdir_of_another_method_is_refused(tmp_path):
    config.save(build_settings(default.get_config("agp_gi")), tmp_path)
    with pytest.raises(
        UserError, match=r"patches.kind is 'whole' there and 'random' here; use another --workdir"
    ):
        config.save(build_settings(default.get_config("alp_gi")), tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_steps", 200_000),
        ("data__num_workers", 4),
        ("evaluation__every_steps", 10),
        ("terms__adversarial__watch_patience", 0),
    ],
)
def test_fields_that_change_neither_model_nor_data_may_change(tmp_path, field, value):
    config.save(build_settings(default.get_config()), tmp_path)
    config.save(build_settings(get_default(**{field: value})), tmp_path)
    assert flatten(to_config(config.load(tmp_path)))[field.replace("__", ".")] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", r"cannot be read \(it is no JSON object\)"),
        ('{"a": 1', "cannot be read"),
        ('{"a": 1}', "lacks 'objective'"),
        ('{"format": 3}', "its format is 3, and this version reads 1 to 2"),
        ('{"format": 2, "a": 1}', r"In .*config.json: Unknown field config.a"),
    ],
)
def test_a_damaged_saved_configuration_is_one_sentence(tmp_path, text, message):
    (tmp_path / config.FILE_NAME).write_text(text)
    with pytest.raises(UserError, match=message):
        config.load(tmp_path)


def test_a_folder_without_a_run_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="No run in"):
        config.load(tmp_path)


def test_an_unwritable_workdir_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write to .*file/run .*as --workdir"):
        config.save(build_settings(default.get_config()), pathlib.Path(tmp_path / "file" / "run"))
