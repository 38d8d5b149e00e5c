"""A study's statistics, tables and plot, against values worked by hand and loops."""

import csv
import dataclasses
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from alp_jax.data.labels import load_label_set
from alp_jax.study import (
    criteria,
    documents,
    markup,
    published_tables,
    scores,
    selection,
    statistics,
    sweep,
    tables,
)

NAMES = load_label_set("cityscapes_16").names


def summarise(mean_iou, step=500, split="test", **criteria_values) -> scores.Summary:
    return {
        "step": step,
        "dataset": "toy_cities/target",
        "split": split,
        "mean_iou": mean_iou,
        "mean_iou_16": mean_iou,
        "mean_iou_13": mean_iou,
        "iou_per_class": {name: None if name == "bus" else mean_iou for name in NAMES},
        "mean_entropy": 0.1,
        "soft_neighbourhood_density": 2.0,
        "information_maximisation": 0.3,
        **criteria_values,
    }


def make_run(method, seed, mean_iou, value=None, evaluations=()) -> scores.RunScores:
    last = summarise(mean_iou)
    return scores.RunScores(
        method, value, seed, f"{method}/seed_{seed}", last, last, tuple(evaluations)
    )


def make_study(*runs: scores.RunScores, field=None, values=(), source="toy_cities/source"):
    about = scores.About(
        command="python -m alp_jax.study --config=a_b.py",
        config="a_b.py",
        overrides=(),
        methods=tuple(dict.fromkeys(run.method for run in runs)),
        label_set="cityscapes_16",
        classes=NAMES,
        reports=("mean_iou_13",),
        source=source,
        dataset="toy_cities/target",
        evaluation_split="validation",
        reported_split="test",
        sweep_field=field,
        sweep_values=values,
        seeds=(0, 1),
        versions={"jax": "0"},
    )
    return scores.Study(about, runs)


TWO = make_study(
    make_run("source_only", 0, 0.30),
    make_run("source_only", 1, 0.32),
    make_run("alp_gi", 0, 0.35),
    make_run("alp_gi", 1, 0.36),
    make_run("alp_gi", 2, 0.50),  # Without a partner.
)


def test_mean_and_deviation_by_hand():
    assert statistics.mean_and_std([0.3, 0.5]) == pytest.approx((0.4, np.sqrt(0.02)))
    assert statistics.mean_and_std([0.3]) == (0.3, None)
    assert statistics.format_percent([0.3, None, 0.5]) == "40.0 ± 14.1"
    assert statistics.format_percent([None]) == "-"


def test_differences_are_of_the_seeds_that_both_have():
    (found,) = statistics.paired_differences(TWO)
    assert (found.first, found.second) == ("alp_gi", "source_only")
    assert found.differences == pytest.approx((0.05, 0.04))
    assert (found.mean, found.std) == pytest.approx((0.045, 0.005 * np.sqrt(2)))
    # t(0.975, 1 degree) = tan(0.475 pi) = 12.706; standard error 0.005.
    assert found.student == pytest.approx((0.045 - 0.06353, 0.045 + 0.06353), abs=1e-5)


def test_one_seed_has_no_interval():
    found = statistics.compare("a", "b", (0.1,))
    assert (found.std, found.bootstrap, found.student) == (None, None, None)


def test_equal_differences_are_an_interval_of_a_point():
    assert statistics.compare("a", "b", (0.5, 0.5)).bootstrap == (0.5, 0.5)


def test_the_bootstrap_interval_equals_the_definition_of_bca():
    differences = np.array([0.028, 0.023, 0.03, 0.01, 0.041])
    rng = np.random.default_rng(1)
    means = np.array([rng.choice(differences, 5).mean() for _ in range(20_000)])
    below = (np.sum(means < differences.mean()) + np.sum(means <= differences.mean())) / 2
    bias = stats.norm.ppf(below / len(means))
    jackknife = np.array([np.delete(differences, i).mean() for i in range(5)])
    away = jackknife.mean() - jackknife
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    shifted = bias + stats.norm.ppf([0.025, 0.975])
    levels = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    found = statistics.compare("a", "b", tuple(differences))
    np.testing.assert_allclose(found.bootstrap, np.quantile(means, levels), atol=6e-4)


def test_the_table_has_a_row_for_each_setting_and_a_column_for_each_class():
    heads, rows = tables.score_table(TWO)
    assert heads[:6] == ["method", "seeds", "mIoU", "mIoU-13", "Road", "SW"]
    assert len(heads) == 4 + 16
    assert rows[0][:3] == ["source_only", "2", "31.0 ± 1.4"]
    assert rows[1][:2] == ["alp_gi", "3"]
    assert rows[0][heads.index("Bus")] == "-"
    relative = tables.relative_row(TWO)
    assert relative is not None
    assert relative[:3] == ["alp_gi minus source_only", "2", "4.5 ± 0.7"]


def test_the_last_evaluations_are_averaged_with_their_deviation():
    history = [summarise(iou, step=50 * i) for i, iou in enumerate([0.9, *[0.2] * 5, *[0.4] * 5])]
    study = make_study(make_run("alp_gi", 0, 0.4, evaluations=history))
    heads, rows = tables.history_table(study)
    assert heads[:4] == ["method", "seeds", "std within a run", "mIoU"]
    # Step 0 is left out: five of 0.2 and five of 0.4, whose variance is 0.1 / 9.
    assert rows == [["alp_gi", "1", f"{100 * np.sqrt(0.1 / 9):.2f}", "30.0", *rows[0][4:]]]


def test_tables_say_how_many_evaluations_are_averaged():
    def write(*lengths: int) -> tuple[str, set[str]]:
        runs = [
            make_run("alp_gi", seed, 0.4, evaluations=make_history([(0.4, 0.1)] * length))
            for seed, length in enumerate(lengths)
        ]
        study = make_study(*runs)
        rows = csv.DictReader(io.StringIO(tables.to_csv(study)))
        return documents.to_markdown(study), {row["kind"] for row in rows} - {"last", "best"}

    text, kinds = write(12)
    assert "## The last 10 evaluations\n\nMean of each run's last 10 evaluations, on" in text
    assert kinds == {"last_10_mean"}
    text, kinds = write(2, 3)
    assert "## The last 2 to 3 evaluations" in text
    assert kinds == {"last_2_mean", "last_3_mean"}
    assert "Mean of each run's last evaluation, on validation" in write(1)[0]


def test_classes_of_ones_own_keep_their_names():
    names = ("iPhone", "person", "Pole", "pole")
    ious = {"iou_per_class": dict.fromkeys(names, 0.5)}
    run = make_run("alp_gi", 0, 0.3)
    run = dataclasses.replace(run, last=run.last | ious, best=None)
    study = make_study(run)
    about = dataclasses.replace(study.about, label_set="mine.yaml", classes=names, reports=())
    study = dataclasses.replace(study, about=about)
    assert tables.score_table(study)[0] == ["method", "seeds", "mIoU", *names]
    for text in (documents.to_markdown(study), documents.to_latex(study)):
        assert "PR" not in text
        assert "IPhone" not in text
    assert tables.published_table(study)[0][-4:] == list(names)


def test_zero_has_no_sign():
    assert statistics.format_percent([-1e-5, -2e-5]) == "0.0 ± 0.0"
    assert statistics.format_interval((-1e-6, 0.02)) == "+0.00 to +2.00"
    assert statistics.format_percent([-0.001]) == "-0.1"


def test_csv_holds_every_run_in_percent():
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(TWO))))
    assert len(rows) == 2 * 5  # Last and best; no evaluations while training.
    assert {row["kind"] for row in rows} == {"last", "best"}
    assert float(rows[0]["mean_iou"]) == 30.0
    assert rows[0]["bus"] == ""
    assert rows[0]["mean_entropy"] == "0.100000"


def test_markdown_tables_are_rectangular_and_say_what_used_labels():
    text = documents.to_markdown(TWO)
    assert "chosen with target labels" in text
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 5
    for block in blocks:
        assert len({line.count(" | ") for line in block.splitlines()}) == 1
    assert "## Published" not in text


def test_published_numbers_stand_beside_a_study_of_the_papers_task():
    study = make_study(*TWO.runs, source="synthia_rand_cityscapes/all_760x1280")
    text = documents.to_markdown(study)
    assert "| 3 | ALP-GI | 44.84 | 51.99 | 90.6 |" in text


def test_latex_has_equal_columns_and_bold_for_the_best():
    text = markup.latex_table(
        ["method", "seeds", "mIoU", "Road"],
        [["a_b", "2", "31.0 ± 1.4", "-"], ["c", "2", "34.2", "50.0 ± 0.1"]],
        ["c minus a_b", "2", "3.2 ± 1.0", "-"],
    )
    assert "a\\_b & 2 & $31.0_{\\pm 1.4}$ & -- \\\\" in text
    assert "c & 2 & $\\mathbf{34.2}$ & $\\mathbf{50.0}_{\\pm 0.1}$ \\\\" in text
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert {row.count("&") for row in rows} == {3}
    assert "\\begin{tabular}{lrrr}" in text
    latex_rows = [line for line in documents.to_latex(TWO).splitlines() if line.endswith("\\\\")]
    assert {row.count(" & ") for row in latex_rows} == {19}


def make_history(pairs) -> list[scores.Summary]:
    """Evaluations with (mean IoU, mean entropy)."""
    return [
        summarise(iou, step=50 * (i + 1), split="validation", mean_entropy=entropy)
        for i, (iou, entropy) in enumerate(pairs)
    ]


def test_a_criterion_is_ranked_by_correlation_and_regret():
    # Entropy falls as mean IoU rises, but for the last: ranks 1 2 3 4 and 1 2 4 3, so 0.8.
    history = make_history([(0.1, 0.9), (0.2, 0.8), (0.3, 0.1), (0.4, 0.2)])
    study = make_study(make_run("alp_gi", 0, 0.4, evaluations=history))
    rankings = {ranking.criterion: ranking for ranking in criteria.rank_criteria(study)}
    entropy = rankings["mean_entropy"]
    assert entropy.over_steps == (pytest.approx(0.8), None)
    assert entropy.regret == (pytest.approx(0.1), None)
    assert entropy.over_settings is None  # One setting.
    assert rankings["soft_neighbourhood_density"].over_steps is None  # Constant.
    assert rankings["last_step"].regret == (pytest.approx(0.0), None)
    assert rankings["last_step"].over_steps == (pytest.approx(1.0), None)


def test_a_criterion_is_ranked_over_the_settings_of_a_seed():
    runs = [
        make_run(method, seed, iou, evaluations=make_history([(0.0, 1.0), (iou, entropy)]))
        for seed in (0, 1)
        for method, iou, entropy in (("a", 0.2, 0.5), ("b", 0.3, 0.6), ("c", 0.4, 0.4))
    ]
    rankings = {r.criterion: r for r in criteria.rank_criteria(make_study(*runs))}
    # Ranks of mean IoU 1 2 3, of minus entropy 2 1 3: 1 - 6 * 2 / 24 = 0.5.
    assert rankings["mean_entropy"].over_settings == (pytest.approx(0.5), pytest.approx(0.0))
    assert rankings["mean_entropy"].num_seeds == 2


def test_runs_without_labels_have_no_ranking():
    history = [summarise(None, step=50), summarise(None, step=100)]
    study = make_study(make_run("alp_gi", 0, None, evaluations=history))
    assert all(ranking.num_runs == 0 for ranking in criteria.rank_criteria(study))
    assert "| alp_gi | 1 | - |" in documents.to_markdown(study)


SWEEP = make_study(
    *[make_run("source_only", seed, 0.3 + 0.01 * seed) for seed in (0, 1)],
    *[
        make_run("alp_gi", seed, 0.3 + side / 1000 + 0.01 * seed, [side, side])
        for seed in (0, 1)
        for side in (16, 32, 64)
    ],
    field="terms.adversarial.patches.patch_size",
    values=([16, 16], [32, 32], [64, 64]),
)


def test_settings_of_a_sweep_are_named_with_their_value():
    assert list(SWEEP.by_setting()) == [
        "source_only",
        "alp_gi, patch_size 16x16",
        "alp_gi, patch_size 32x32",
        "alp_gi, patch_size 64x64",
    ]
    # A weight is of a term; in studies of format 1 the name alone said which it was.
    assert scores.shorten_field("terms.adversarial.weight") == "adversarial.weight"
    assert scores.shorten_field("objective.adversarial_weight") == "adversarial_weight"
    assert scores.shorten_field("optimizer.momentum") == "momentum"


def test_the_plot_of_a_sweep_has_its_numbers_beside_it(tmp_path):
    sweep.save_sweep(SWEEP, tmp_path)
    with Image.open(tmp_path / "sweep.png") as image:
        assert image.size == (960, 630)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "sweep.csv").read_text())))
    assert [row["terms.adversarial.patches.patch_size"] for row in rows] == [
        "",
        "16x16",
        "32x32",
        "64x64",
    ]
    assert float(rows[1]["mean_iou"]) == pytest.approx(32.1)
    assert float(rows[1]["std"]) == pytest.approx(100 * 0.01 / np.sqrt(2), abs=1e-4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.001, 0.1), ([0.001, 0.1], True)),
        (([16, 16], [32, 32]), ([16.0, 32.0], True)),
        (([16, 16], [32, 48]), ([0.0, 1.0], False)),
        (("cell", "patch"), ([0.0, 1.0], False)),
        ((True, False), ([0.0, 1.0], False)),
    ],
)
def test_values_are_placed_by_size_where_they_have_one(values, expected):
    assert sweep.positions(values) == expected


def test_a_sweep_axis_is_logarithmic_over_a_decade():
    study = make_study(
        *[make_run("agp_gi", 0, 0.2, value) for value in (0.001, 0.01, 0.1)],
        *[make_run("alp_gi", 0, 0.3, value) for value in (0.001, 0.01, 0.1)],
        field="terms.adversarial.weight",
        values=(0.001, 0.01, 0.1),
    )
    axis = Figure().subplots()
    sweep._draw(study, axis)
    assert axis.get_xscale() == "log"
    assert axis.get_xlabel() == "adversarial weight λ"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0.001", "0.01", "0.1"]
    low, high = axis.get_ylim()
    assert low < 20 < 30 < high
    global_line, local_line = (container.lines[0] for container in axis.containers)
    left, right = (np.asarray(line.get_xdata(), float) for line in (global_line, local_line))
    assert np.all(left < right)  # Neither hides the other's error bars.
    np.testing.assert_allclose(np.sqrt(left * right), [0.001, 0.01, 0.1])
    assert axis.get_xlim()[0] < left[0] < right[-1] < axis.get_xlim()[1]


# Means that the paper prints and that are not the mean of the row.
MISPRINTS = {(1, "MCD [15]", 13)}


def test_published_rows_average_to_their_printed_means():
    checked = 0
    for task, size in (("synthia_to_cityscapes", 16), ("gta5_to_cityscapes", 19)):
        rows = published_tables.published_rows(task)
        for row in rows:
            assert list(row.iou_per_class) == list(load_label_set(f"cityscapes_{size}").names)
            for classes, mean in ((size, row.mean_iou), (13, row.mean_iou_13)):
                ious = [
                    row.iou_per_class[name]
                    for name in load_label_set(f"cityscapes_{classes}").names
                ]
                if mean is None or None in ious or (row.table, row.method, classes) in MISPRINTS:
                    continue
                assert np.mean(ious) == pytest.approx(mean, abs=0.055), row
                checked += 1
    # Table 1: 12 of 16 classes, 14 of 13; Table 3 twice 3; Table 2 18; Table 4 4.
    assert checked == 12 + 14 + 6 + 18 + 4


def test_published_tables_have_the_methods_of_the_ablations():
    rows = published_tables.published_rows("gta5_to_cityscapes")
    found = {row.variant: row.mean_iou for row in rows if row.table == 4}
    assert found == {"source_only": 37.76, "ap_ci": 20.62, "agp_gi": 40.56, "alp_gi": 46.98}
    assert published_tables.task_of("gta5/all", label_set="cityscapes_19") == "gta5_to_cityscapes"
    assert published_tables.task_of("gta5/all", label_set="cityscapes_16") is None
    assert published_tables.task_of("toy_cities/source", label_set="cityscapes_16") is None
    assert published_tables.published_rows(None) == ()


def evaluated(method, seed, value, validation, test, entropy) -> scores.RunScores:
    history = summarise(validation, 500, "validation", mean_entropy=entropy)
    start = summarise(0.9, 0, "validation", mean_entropy=0.0)  # Of step 0: never chosen by.
    return make_run(method, seed, test, value, [start, history])


def test_each_method_is_compared_at_its_own_value():
    study = make_study(
        make_run("source_only", 0, 0.30, None, [summarise(0.3, 500, "validation")]),
        make_run("source_only", 1, 0.31, None, [summarise(0.3, 500, "validation")]),
        evaluated("agp_gi", 0, 0.001, 0.40, 0.33, entropy=0.2),
        evaluated("agp_gi", 1, 0.001, 0.30, 0.34, entropy=0.2),
        evaluated("agp_gi", 0, 0.1, 0.41, 0.90, entropy=0.1),
        evaluated("agp_gi", 1, 0.1, 0.25, 0.90, entropy=0.1),
        evaluated("alp_gi", 0, 0.001, 0.10, 0.99, entropy=0.3),
        evaluated("alp_gi", 1, 0.001, 0.10, 0.99, entropy=0.3),
        evaluated("alp_gi", 0, 0.1, 0.50, 0.36, entropy=0.4),
        evaluated("alp_gi", 1, 0.1, 0.40, 0.35, entropy=0.4),
        field="terms.adversarial.weight",
        values=(0.001, 0.1),
    )
    by_labels = selection.choose(study, selection.LABELS)
    assert [(choice.method, choice.value) for choice in by_labels] == [
        ("source_only", None),
        ("agp_gi", 0.001),  # Means on validation 0.35 and 0.33, whatever test says.
        ("alp_gi", 0.1),
    ]
    assert by_labels[2].evaluated == pytest.approx(0.45)
    (_, _, ours) = selection.compare_choices(by_labels)
    assert (ours.first, ours.second) == ("alp_gi", "agp_gi")
    assert ours.differences == pytest.approx((0.03, 0.01))
    by_entropy = selection.choose(study, "mean_entropy")  # Lower is better.
    assert [choice.value for choice in by_entropy] == [None, 0.1, 0.001]

    (heads, rows), _ = tables.choice_tables(study)
    assert heads[-2:] == ["mIoU, validation", "mIoU, test"]
    assert rows[1] == [
        "mean IoU (target labels)",
        "alp_gi",
        "0.1",
        "45.0 ± 7.1",
        "35.5 ± 0.7",
    ]
    text = documents.to_markdown(study)
    assert "## Best against best: each method's own terms.adversarial.weight" in text
    assert "| mean entropy | alp_gi minus agp_gi |" in text
    assert "Best against best" not in documents.to_markdown(TWO)


def test_a_method_without_labels_chooses_nothing_by_mean_iou():
    study = make_study(
        evaluated("alp_gi", 0, 0.1, None, None, entropy=0.4),
        field="terms.adversarial.weight",
        values=(0.1,),
    )
    assert selection.choose(study, selection.LABELS) == []
    assert [choice.value for choice in selection.choose(study, "mean_entropy")] == [0.1]
