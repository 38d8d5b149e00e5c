"""Studies side by side, against values worked by hand."""

import csv

import numpy as np
import pytest
from PIL import Image

from alp_jax.errors import UserError
from alp_jax.study import comparison, scores
from tests.commands import call
from tests.test_study_tables import make_run, make_study


@pytest.fixture
def folders(tmp_path):
    """With a shift ALP is ahead by 3 and 5 points on seeds 0 and 1; without, by 1 and 1."""
    found = {
        "shift": [("source_only", (0.2, 0.2)), ("agp_gi", (0.30, 0.31)), ("alp_gi", (0.33, 0.36))],
        "none": [("agp_gi", (0.40, 0.40)), ("alp_gi", (0.41, 0.41))],
    }
    for name, methods in found.items():
        runs = [
            make_run(method, seed, value)
            for method, values in methods
            for seed, value in enumerate(values)
        ]
        (tmp_path / name).mkdir()
        scores.save(make_study(*runs), tmp_path / name)
    return [tmp_path / name for name in found]


def test_changes_are_paired_by_seed(folders):
    found = comparison.compare_studies(folders)
    assert found.settings == ("agp_gi", "alp_gi")  # Those that both have.
    assert list(found.differences) == [("alp_gi", "agp_gi")]
    shift, none = found.differences["alp_gi", "agp_gi"]
    assert shift.differences == pytest.approx((0.03, 0.05))
    assert none.differences == pytest.approx((0.01, 0.01))
    (change,) = found.changes["alp_gi", "agp_gi"]
    assert (change.first, change.second) == ("none", "shift")
    assert change.differences == pytest.approx((-0.02, -0.04))
    assert change.std == pytest.approx(np.sqrt(2) / 100)


def test_a_comparison_is_a_table_numbers_and_a_plot(folders, tmp_path):
    result = call(
        "alp_jax.study",
        "--mode=compare",
        f"--workdir={tmp_path / 'out'}",
        f"--studies={','.join(map(str, folders))}",
    )
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert text in result.stdout
    assert "| alp_gi minus agp_gi | none minus shift | -3.00 ± 1.41 | -15.71 to +9.71 |" in text
    assert "--mode=compare" in text
    (first, second) = csv.DictReader((tmp_path / "out" / "comparison.csv").read_text().splitlines())
    assert (first["study"], first["mean"], first["seeds"]) == ("shift", "4.0000", "2")
    assert (second["study"], second["mean"], second["std"]) == ("none", "1.0000", "0.0000")
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        assert min(picture.size) > 500


def test_studies_that_cannot_be_compared_end_in_one_sentence(folders, tmp_path):
    with pytest.raises(UserError, match="at least two studies"):
        comparison.compare_studies(folders[:1])
    with pytest.raises(UserError, match="whose last folders are both called shift: expected"):
        comparison.compare_studies([folders[0], folders[0]])
    (tmp_path / "begun" / "starts").mkdir(parents=True)
    with pytest.raises(UserError, match="was interrupted before the first of its runs"):
        comparison.compare_studies([folders[0], tmp_path / "begun"])
    with pytest.raises(UserError, match="No study in"):
        comparison.compare_studies([folders[0], tmp_path / "missing"])
    (tmp_path / "other").mkdir()
    scores.save(make_study(make_run("ap_ci", 0, 0.3)), tmp_path / "other")
    with pytest.raises(UserError, match="no two scored settings in common"):
        comparison.compare_studies([folders[0], tmp_path / "other"])
