"""The table of many methods: rows, groups, the paper's numbers, differences, order and picture."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from alp_jax.study import method_documents, method_picture, method_rows, published_tables, scores
from alp_jax.study.choices import Choice
from alp_jax.study.experiment import Entry, Experiment, over, with_alignment
from configs import default
from tests.test_study_tables import make_run, make_study

WEIGHT = "terms.adversarial_alp.weight"
MINENT = "terms.entropy.weight"
ENTRIES = (
    *with_alignment(Entry("source_only", name="source_only", title="Source-only"), 0.1, 0.2),
    *with_alignment(
        Entry("minent", over(MINENT, 0.001, 0.01), name="minent", title="MinEnt [8]"), 0.1, 0.2
    ),
    Entry("clan", name="clan", title="CLAN & more"),
    Entry("mcd", name="mcd", title="MCD"),
    Entry("mine", name="mine", title="Not in the paper"),
)
EXPERIMENT = Experiment("a.py", ENTRIES, seeds=(0, 1, 2), tuning_seeds=(5,))
CHOICES = {
    "minent": Choice({MINENT: 0.01}, over(MINENT, 0.001, 0.01), ((0.3,), (0.4,)), 1),
    "minent+alp": Choice(
        {MINENT: 0.01, WEIGHT: 0.1},
        ({MINENT: 0.01, WEIGHT: 0.1}, {MINENT: 0.01, WEIGHT: 0.2}),
        ((0.5,), (0.4,)),
        0,
    ),
}
# Mean IoU of seeds 0, 1, 2.
SCORES = {
    "source_only": (0.30, 0.31, 0.32),
    "source_only+agp": (0.33, 0.33, 0.36),
    "source_only+alp": (0.36, 0.38, 0.37),
    "minent": (0.34, 0.35, 0.36),
    "minent+alp": (0.40, 0.40, 0.43),
    "clan": (0.38, 0.39, 0.40),
    "mcd": (0.39, 0.40, 0.41),
    "mine": (0.5, 0.5, 0.5),
}


@pytest.fixture(scope="module")
def study() -> scores.Study:
    return make_study(
        *[
            make_run(name, seed, iou)
            for name, ious in SCORES.items()
            for seed, iou in enumerate(ious)
        ]
    )


@pytest.fixture(scope="module")
def rows(study):
    return method_rows.collect(EXPERIMENT, CHOICES, study)


def test_every_method_of_the_papers_tables_has_its_numbers():
    """By the names that this package gives to the methods."""
    expected = {
        **{
            "mcd": (37.3, 43.5, 39.7),
            "adaptsegnet": (None, 46.7, 42.4),
            "clan": (None, 47.8, 43.2),
        },
        **{
            "minent": (38.1, 44.2, 42.3),
            "advent": (40.8, 47.6, 43.8),
            "a_plus_e": (41.2, 48.0, 45.5),
        },
        **{"cbst": (42.6, 48.9, 45.9), "mrl2": (42.8, 48.7, 46.0), "mrent": (43.4, 49.6, 46.1)},
        **{
            "mrkld": (43.8, 50.1, 47.1),
            "lrent": (42.7, 48.7, 45.9),
            "alp_gi": (44.84, 51.99, 46.98),
        },
    }
    for variant, numbers in expected.items():
        first, second = (published_tables.find_row(variant, table) for table in (1, 2))
        assert (first.mean_iou, first.mean_iou_13, second.mean_iou) == numbers, variant
    assert published_tables.find_row("minent_er", 1) is None
    assert published_tables.find_row("minent_er", 2).mean_iou == 43.1
    assert published_tables.find_row("source_only", 1) is None  # Only in the ablations.


def test_the_table_has_the_layout_of_tables_1_and_2(study, rows):
    heads, formatted = method_documents.score_table(EXPERIMENT, study, rows)
    assert heads[:6] == ["method", "seeds", "mIoU", "mIoU-13", "Road", "SW"]
    assert len(heads) == 4 + 16 + 1 + 3
    assert heads[20] == "chosen from 2 by mIoU on validation (target labels)"
    cells = {row[0]: row for row in formatted}
    assert cells["Source-only"][:4] == ["Source-only", "3", "31.0 ± 1.0", "31.0 ± 1.0"]
    assert cells["Source-only"][20:] == ["-", "31.95", "36.86", "37.76"]
    assert cells["Source-only + ALP"][21:] == ["44.84", "51.99", "46.98"]  # It is the paper's own.
    assert cells["MinEnt [8]"][20:] == ["entropy.weight 0.01", "38.1", "44.2", "42.3"]
    assert cells["MinEnt [8] + ALP"][20:] == ["adversarial_alp.weight 0.1", "-", "-", "-"]
    assert cells["Not in the paper"][20:] == ["-", "-", "-", "-"]
    assert "MinEnt [8] + whole maps" not in cells  # Has no finished run.


def test_differences_are_paired_by_seed_within_a_group(rows):
    found = {
        (d.first.entry.name, d.second.entry.name): d.found for d in method_rows.compare_groups(rows)
    }
    assert set(found) == {
        ("source_only+agp", "source_only"),
        ("source_only+alp", "source_only"),
        ("source_only+alp", "source_only+agp"),
        ("minent+alp", "minent"),
    }
    alp = found["source_only+alp", "source_only"]
    assert alp.differences == pytest.approx((0.06, 0.07, 0.05))
    # t(0.975, 2 degrees) = 4.3027; standard error 0.01 / sqrt(3).
    half = 4.302653 * 0.01 / np.sqrt(3)
    assert alp.student == pytest.approx((0.06 - half, 0.06 + half), abs=1e-7)
    assert found["minent+alp", "minent"].differences == pytest.approx((0.06, 0.05, 0.07))


def test_methods_are_compared_with_source_only(rows):
    found = method_rows.compare_with_source_only(rows)
    assert [(d.first.entry.name, d.second.entry.name) for d in found] == [
        (name, "source_only") for name in ("minent", "clan", "mcd", "mine")
    ]
    assert found[0].found.differences == pytest.approx((0.04, 0.04, 0.04))
    assert method_rows.compare_with_source_only(rows[3:]) == []


def test_the_order_is_compared_with_the_papers(rows):
    order = method_rows.order_as_published(rows, 1)  # By mIoU-13, which it prints for all.
    assert [(row.entry.name, number) for row, _, number in order.rows] == [
        *(("source_only+alp", 51.99), ("clan", 47.8), ("source_only+agp", 47.3)),
        *(("minent", 44.2), ("mcd", 43.5), ("source_only", 36.86)),
    ]
    # Here 0.37 0.39 0.34 0.35 0.40 0.31: ranks 3 2 5 4 1 6 for 1 to 6, so 1 - 6 * 26 / 210.
    squares = sum((a - b) ** 2 for a, b in zip((3, 2, 5, 4, 1, 6), range(1, 7), strict=True))
    assert order.correlation == pytest.approx(1 - 6 * squares / 210)
    heads, formatted = method_documents.order_table(order)
    assert formatted[0] == ["Source-only + ALP", "51.99", "1", "37.0", "3"]
    assert len(heads) == 5
    few = [row for row in rows if row.entry.name in ("clan", "mcd")]
    assert method_rows.order_as_published(few, 1).correlation is None


def test_all_files_are_written_and_agree(study, rows, tmp_path):
    method_documents.save(EXPERIMENT, CHOICES, study, tmp_path)
    text = (tmp_path / "methods.md").read_text()
    for block in (block for block in text.split("\n\n") if block.startswith("|")):
        assert len({line.count(" | ") for line in block.splitlines()}) == 1
    assert "so with target labels; seeds 5: no reported run had a part in it" in text
    assert "| MinEnt [8] | terms.entropy.weight 0.01 | 40.00 | chosen |" in text
    assert "| Source-only + ALP minus Source-only | 6.00 ± 1.00 |" in text
    assert "## What alignment adds, mIoU-13" in text
    assert "| MinEnt [8] minus Source-only | 4.00 ± 0.00 |" in text
    read = list(csv.DictReader(io.StringIO((tmp_path / "methods.csv").read_text())))
    described = json.loads((tmp_path / "methods.json").read_text())
    assert [row["method"] for row in read] == [row["name"] for row in described["methods"]]
    for row, fields in zip(read, described["methods"], strict=True):
        assert float(row["mean_iou"]) == pytest.approx(
            100 * np.mean(SCORES[row["method"]]), abs=1e-4
        )
        assert fields["mean_iou"] == list(SCORES[row["method"]])
        assert (row["base"], row["role"]) == (fields["base"], fields["role"])
    assert (read[3]["paper_table_1_mean_iou_13"], read[3]["chosen"]) == (
        "44.2",
        "entropy.weight 0.01",
    )
    assert described["choices"]["methods"]["minent"]["chosen"] == 1
    assert len(described["differences"]["mean_iou_13"]) == 4 + 4
    with Image.open(tmp_path / "methods.png") as image:
        assert image.size[0] == 1500


def test_latex_has_equal_columns_groups_and_bold_for_our_best(study, rows):
    text = method_documents.to_latex(EXPERIMENT, study, rows)
    first, second = text.split("\\end{tabular}")[:2]
    for table, columns in ((first, 24), (second, 5)):
        lines = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert {line.replace(r"\&", "").count("&") for line in lines} == {columns - 1}
    assert first.count("\\midrule") == 5  # One below the heads, one above each group but the first.
    assert r"Not in the paper & 3 & $\mathbf{50.0}_{\pm 0.0}$" in first
    assert r"CLAN \& more" in first
    assert r"\mathbf{46.98}" not in first


def test_the_picture_shows_each_role_once_and_all_intervals(study, rows):
    figure = method_picture.draw(study, rows)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == [
        *("Source-only", "MinEnt [8]", "CLAN & more", "MCD", "Not in the paper"),
    ]
    assert len(left.containers) == len(rows)
    assert len(right.containers) == 3  # Two on source-only, one on MinEnt; none between additions.
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 3
    means = sorted(float(container.lines[0].get_xdata()[0]) for container in right.containers)
    assert means == pytest.approx([3.0, 6.0, 6.0])
    low, high = left.get_xlim()
    assert low < 30 < 50 < high


def test_one_seed_and_no_groups_have_no_intervals(study):
    only = dataclasses.replace(EXPERIMENT, entries=ENTRIES[6:], tuning_seeds=())
    one = make_study(make_run("clan", 0, 0.3), make_run("mcd", 0, None))
    rows = method_rows.collect(only, {}, one)
    text = method_documents.to_markdown(only, one, rows)
    assert "What was chosen" not in text
    assert "What alignment adds" not in text
    assert "| MCD | 1 | - | - |" in text
    assert len(method_picture.draw(one, rows).axes[0].containers) == 1


def test_names_of_the_published_methods_are_names_here():
    """Of those that are built; the others follow with their files."""
    named = {
        row.variant
        for task in published_tables.TASKS
        for row in published_tables.published_rows(task)
        if row.variant
    }
    built = {*default.list_methods(), *default.list_ensembles()}
    assert {"source_only", "ap_ci", "agp_gi", "alp_gi", "advent", "a_plus_e"} <= named & built
