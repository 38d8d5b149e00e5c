import json
import pathlib

import pytest

from alp_jax.errors import UserError
from alp_jax.settings import validation
from alp_jax.workdir import config
from configs import default, gta5_to_cityscapes, image_folders, synthia_to_cityscapes, toy_cities

PAPER = {"gta5": gta5_to_cityscapes, "synthia": synthia_to_cityscapes}


@pytest.mark.parametrize("variant", default.METHODS)
def test_the_papers_configurations_are_valid(variant):
    run_config = default.get_config(variant)
    validation.validate(run_config)
    assert run_config.objective.use_target == (variant != "source_only")
    assert run_config.is_locked


@pytest.mark.parametrize("variant", default.METHODS)
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
    run_config = module.get_config(variant)
    validation.validate(run_config)
    fields = config.flatten(run_config)
    expected = {
        "data.source_size": source_size,
        "data.target_size": [512, 1024],
        "data.label_set": label_set,
        "data.batch_size": 1,
        "num_steps": 150_000,
        "objective.adversarial_weight": 0.001,
        "objective.patch_size": [256, 256],
        "objective.aligned_map": "self_information",
        "optimizer.segmenter_learning_rate": 2.5e-4,
        "optimizer.discriminator_learning_rate": 1e-4,
        "model.depths": [3, 4, 23, 3],
        "model.batch_norm_mode": "running",
        "model.aux_classifier": False,
    }
    assert {name: fields[name] for name in expected} == expected
    different = {
        name
        for name, value in config.flatten(module.get_config("alp_gi")).items()
        if fields[name] != value
    }
    assert different <= {"objective.patch", "objective.use_target"}


@pytest.mark.parametrize(
    ("module", "aux_classifier", "num_steps", "horizon_steps"),
    [(gta5_to_cityscapes, True, 120_000, 250_000), (synthia_to_cityscapes, False, 90_000, 90_000)],
    ids=PAPER,
)
def test_advent_has_the_numbers_of_its_published_code(
    module, aux_classifier, num_steps, horizon_steps
):
    run_config = module.get_config("advent")
    validation.validate(run_config)
    assert run_config.model.aux_classifier == aux_classifier
    assert run_config.model.batch_norm_mode == "batch"
    assert run_config.num_steps == num_steps
    assert run_config.optimizer.horizon_steps == horizon_steps
    objective = run_config.objective
    assert objective.aligned_map == "normalized_self_information"
    assert objective.patch == "whole"
    assert (objective.aux_cross_entropy_weight, objective.aux_adversarial_weight) == (0.1, 2e-4)


@pytest.mark.parametrize("variant", default.METHODS)
def test_the_configuration_of_own_images_is_valid(variant):
    validation.validate(image_folders.get_config(variant))


@pytest.mark.parametrize("variant", toy_cities.VARIANTS)
def test_the_built_in_configurations_are_valid(variant):
    validation.validate(toy_cities.get_config(variant))


def test_methods_differ_only_in_the_objective():
    flat = {v: config.flatten(toy_cities.get_config(v)) for v in default.METHODS}
    allowed = {"objective.patch", "objective.use_target"}
    more = {
        "ap_ci": {"start_variant", "init_from"},  # Never sees a whole image.
        "target_bn": {"model.batch_norm_mode"},  # Nothing else would adapt.
    }
    for variant, fields in flat.items():
        different = {name for name in fields if fields[name] != flat["alp_gi"][name]}
        assert different <= allowed | more.get(variant, set()), variant


def test_crops_of_equal_pixels_cover_an_image():
    run_config = toy_cities.get_config("ap_ci_equal_pixels")
    height, width = run_config.objective.patch_size
    source_height, source_width = run_config.data.source_size
    assert run_config.objective.num_patches * height * width == source_height * source_width
    start = toy_cities.get_config(run_config.start_variant)
    assert start.objective.num_patches == run_config.objective.num_patches
    assert start.objective.patch == "image_crop"


@pytest.mark.parametrize(
    ("variant", "name", "used"),
    [
        ("source_only", "objective.adversarial_weight", False),
        ("source_only", "objective.patch_size", False),
        ("source_only", "data.target_split", False),
        ("source_only", "data.target_size", True),
        ("source_only", "optimizer.momentum", True),
        ("target_bn", "objective.batch_norm_update_domains", True),
        ("target_bn", "discriminator.widths", False),
        ("agp_gi", "objective.patch_size", False),
        ("agp_gi", "objective.adversarial_weight", True),
        ("ap_ci", "objective.num_patches", True),
        ("alp_gi", "objective.patch_size", True),
    ],
)
def test_a_method_uses_the_fields_that_its_step_reads(variant, name, used):
    assert config.is_used(default.get_config(variant), name) == used


@pytest.mark.parametrize("module", [default, toy_cities, image_folders, *PAPER.values()])
def test_an_unknown_variant_lists_those_there_are(module):
    with pytest.raises(ValueError, match=r"Unknown variant 'alp': expected one of .*alp_gi"):
        module.get_config("alp")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"data.label_set": "cityscapes_17"},
            "data.label_set is 'cityscapes_17': expected one of cityscapes_13, cityscapes_16, "
            r"cityscapes_19, or the path of a \.yaml file",
        ),
        ({"data.image_resize": "cubic"}, "'cubic': expected one of bicubic, bilinear"),
        ({"data.batch_size": 0}, "data.batch_size is 0: expected at least 1"),
        ({"data.flip_probability": 1.5}, "data.flip_probability is 1.5: expected at most 1"),
        ({"data.source_size": (720,)}, r"data.source_size is \[720\]: expected \(height, width\)"),
        ({"model.block": "wide"}, "model.block is 'wide': expected one of basic, bottleneck"),
        ({"model.widths": (64, 128)}, "model.widths is .*: expected 4 numbers, one for each stage"),
        ({"model.stem_widths": (8, 8)}, "model.stem_widths .* 1 for the stem 'imagenet'"),
        ({"model.input_std": (1.0, 0.0, 1.0)}, "model.input_std .* numbers above 0"),
        ({"model.input_mean": (1.0,)}, "model.input_mean .*3 numbers"),
        ({"optimizer.momentum": 1.0}, "optimizer.momentum is 1.0: .*below 1"),
        ({"optimizer.horizon_steps": 10}, r"horizon_steps is 10: .*at least num_steps \(150000\)"),
        ({"objective.game": "zero_sum"}, "'zero_sum': expected one of non_saturating, minimax"),
        ({"objective.adversarial_weight": float("nan")}, "adversarial_weight is nan"),
        ({"objective.batch_norm_update_domains": ("both",)}, "a selection of source and target"),
        (
            {"objective.patch_size": (600, 256)},
            r"patch_size is \[600, 256\]: expected a patch inside the target map of 512x1024",
        ),
        (
            {"objective.patch_size": (31, 256)},
            r"patch_size is \[31, 256\]: expected at least 32x32, .* 5 stride-2 layers",
        ),
        (
            {"objective.patch": "whole", "data.target_size": (16, 1024)},
            r"data.target_size is \[16, 1024\]: expected at least 32x32",
        ),
        (
            {"objective.patch": "none", "model.batch_norm_mode": "frozen"},
            "batch_norm_mode is 'frozen': expected running or batch",
        ),
        (
            {"objective.patch": "image_crop", "objective.patch_size": (16, 16)},
            "expected at least 32x32",
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_is_accepted(fields, message):
    run_config = default.get_config()
    with run_config.unlocked():
        run_config.update_from_flattened_dict(fields)
    with pytest.raises(UserError, match=message):
        validation.validate(run_config)


def test_a_patch_is_not_checked_where_none_is_used():
    run_config = default.get_config("source_only")
    run_config.objective.patch_size = (4, 4)
    validation.validate(run_config)


def test_a_missing_field_is_named():
    run_config = default.get_config()
    with run_config.unlocked():
        del run_config.data.batch_size
    with pytest.raises(UserError, match=r"lacks config\.data\.batch_size"):
        validation.validate(run_config)


def test_saved_and_loaded_is_the_same_run(tmp_path):
    run_config = default.get_config()
    config.save(run_config, tmp_path / "run")
    config.save(run_config, tmp_path / "run")
    loaded = config.load(tmp_path / "run")
    assert config.flatten(loaded) == config.flatten(run_config)
    validation.validate(loaded)


@pytest.mark.parametrize(
    ("field", "value"),
    [("model.batch_norm_mode", "frozen"), ("data.source", "synthia"), ("seed", 3)],
)
def test_a_workdir_of_another_run_is_refused(tmp_path, field, value):
    run_config = default.get_config()
    config.save(run_config, tmp_path)
    with run_config.unlocked():
        run_config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=f"holds another run: config.{field} is .* {value!r} here"):
        config.save(run_config, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_steps", 200_000), ("data.num_workers", 4), ("evaluation.every_steps", 10)],
)
def test_fields_that_change_neither_model_nor_data_may_change(tmp_path, field, value):
    run_config = default.get_config()
    config.save(run_config, tmp_path)
    with run_config.unlocked():
        run_config.update_from_flattened_dict({field: value})
    config.save(run_config, tmp_path)
    assert config.flatten(config.load(tmp_path))[field] == value


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1'])
def test_a_damaged_saved_configuration_is_one_sentence(tmp_path, text):
    (tmp_path / config.FILE_NAME).write_text(text)
    with pytest.raises(UserError, match="cannot be read"):
        config.load(tmp_path)


def test_a_folder_without_a_run_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="No run in"):
        config.load(tmp_path)


def test_an_unwritable_workdir_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write to the workdir"):
        config.save(default.get_config(), pathlib.Path(tmp_path / "file" / "run"))


def test_saved_json_is_plain(tmp_path):
    config.save(default.get_config(), tmp_path)
    saved = json.loads((tmp_path / config.FILE_NAME).read_text())
    assert saved["objective"]["patch_size"] == [256, 256]
