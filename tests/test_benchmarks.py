import functools
import json

import jax
import numpy as np
import pytest

from alp_jax.data.labels import load_label_set
from alp_jax.workdir.settings import build_settings
from benchmarks import (
    convolution,
    evaluation,
    input_pipeline,
    methods,
    methods_table,
    paper_step,
    results,
    scaling,
    startup,
    train_step,
)
from tests import tiny
from tests.commands import ROOT


def test_evaluation_measures_every_part_of_the_step(monkeypatch, tmp_path, capsys):
    measure = evaluation.measure
    monkeypatch.setattr(evaluation, "measure", lambda *arguments: measure(*arguments, scale=16))
    output = tmp_path / "results" / "evaluation.json"
    assert evaluation.main(["--repeats=1", f"--output={output}"]) == 0
    content = json.loads(output.read_text())
    (row,) = content["rows"]
    milliseconds = row["milliseconds"]
    assert min(milliseconds.values()) > 0
    assert row["images_per_second"] * milliseconds["step"] == pytest.approx(1000)
    assert row["network_share"] == milliseconds["network"] / milliseconds["step"]
    assert content["command"].startswith("python -m benchmarks.evaluation --repeats=1")
    assert f"{row['images_per_second']:.2f} images/s" in capsys.readouterr().out


def test_ratios_are_of_medians_to_published_code(monkeypatch):
    rates = {"published": [2.0, 4.0, 3.0], "full_size": [6.0] * 3, "resized": [9.0, 30.0, 12.0]}
    monkeypatch.setattr(input_pipeline, "spawn", lambda spec: rates[spec["kind"]].pop())
    spec = {"bytes_per_pair": dict.fromkeys(rates, 5)}
    rows = input_pipeline.measure(spec, workers=2, blocks=3)
    assert [(row["kind"], row["workers"], row["ratio"]) for row in rows] == [
        ("published", 2, 1.0), ("full_size", 2, 2.0), ("resized", 2, 4.0)
    ]  # fmt: skip


def test_startup_alternates_cold_and_warm_and_saves_medians(monkeypatch, tmp_path, capsys):
    totals = iter([9.0, 3.0, 7.0, 1.0, 8.0, 2.0])
    folders = []

    def spawn(data_dir, cache_dir):
        folders.append(cache_dir)
        names = [*startup.PHASES, *startup.EVENTS.values()]
        return dict.fromkeys(names, 0.5) | {"total": next(totals)}

    monkeypatch.setattr(startup, "spawn", spawn)
    output = tmp_path / "startup.json"
    assert startup.main(["--repeats=3", f"--output={output}"]) == 0
    medians = json.loads(output.read_text())["median_seconds"]
    assert (medians["cold"]["total"], medians["warm"]["total"]) == (8.0, 2.0)
    assert [folders[i] == folders[i + 1] for i in range(5)] == [True, False, True, False, True]
    assert "command to first step" in capsys.readouterr().out


def test_numpy_count_of_published_code_ignores_what_is_not_counted():
    labels, predictions = np.array([0, 0, 18, 255]), np.array([0, 3, 18, 3])
    counts = evaluation.count_published(labels, predictions)
    assert counts.sum() == 3
    assert (counts[0, 0], counts[0, 3], counts[18, 18]) == (1, 1, 1)


def test_lists_of_numbers():
    assert results.numbers("1,2") == [1, 2]


def test_costs_that_are_powers_of_the_work_have_their_exponents(monkeypatch, tmp_path, capsys):
    def cost(spec, steps):
        paper_step.create_settings(scale=spec["scale"], batch_size=spec["batch_size"])  # Is valid.
        work = 90 * 160 / spec["scale"] ** 2 * spec["batch_size"]
        held = work / spec["devices"]
        return {"seconds": 3 * work, "temporary_bytes": int(2**30 * held**0.5), "pixels": work} | {
            "images": spec["batch_size"]
        }

    monkeypatch.setattr(scaling, "spawn", cost)
    path = tmp_path / "scaling.json"
    assert scaling.main([f"--output={path}"]) == 0
    tables = json.loads(path.read_text())["tables"]
    found = {name: [round(v, 2) for v in t["exponents"].values()] for name, t in tables.items()}
    assert found == {"pixels": [1, 0.5], "images": [1, 0.5], "devices": [0, -0.5]}
    assert capsys.readouterr().out.count("exponent") == 3


def test_forms_of_convolution_are_timed_against_those_of_xla(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(convolution, "LAYERS", {"tiny": (4, 8, 3, 2, 10, 12)})
    path = tmp_path / "convolution.json"
    assert convolution.main([f"--output={path}"]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert row["kernel_shape"] == [3, 3, 4, 8]
    assert list(row["milliseconds"]) == ["forward", "to inputs", "to kernel", "to kernel, loop"]
    assert all(min(both.values()) > 0 for both in row["milliseconds"].values())
    assert "tiny" in capsys.readouterr().out


def test_both_sides_take_steps_and_their_memory_and_arithmetic_are_told(
    monkeypatch, tmp_path, capsys
):
    settings = build_settings(tiny.get_config(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    monkeypatch.setattr(paper_step, "create_settings", lambda **_: settings)
    monkeypatch.setattr(train_step, "spawn", lambda role, spec, *_: train_step.run_role(role, spec))
    monkeypatch.setattr(train_step, "MATMUL_SIZES", {"cpu": 64})
    path = tmp_path / "train_step.json"
    arguments = ["--scales=4", "--cores=1", "--steps=1", "--blocks=1", f"--output={path}"]
    assert train_step.main(arguments) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert row["source_size"] == [tiny.HEIGHT, tiny.WIDTH]
    assert row["ratio"] == row["median_seconds"]["alp_jax"] / row["median_seconds"]["torch"]
    assert min(row["peak_gib"].values()) > 0
    assert row["flop"] > 1e6
    assert f"{tiny.HEIGHT}x{tiny.WIDTH}" in capsys.readouterr().out


def test_a_drawn_state_and_batch_fit_the_step():
    settings = paper_step.create_settings(scale=4)
    _, (state, shapes, _) = paper_step.describe(settings)
    drawn = paper_step.draw_state(settings)
    assert jax.tree.map(np.shape, drawn) == jax.tree.map(lambda leaf: leaf.shape, state)
    statistics = jax.tree.leaves_with_path(drawn.segmenter.model_state)
    assert all((leaf == ("var" in str(path[-1]))).all() for path, leaf in statistics)
    batch = paper_step.draw_batch(settings)
    assert jax.tree.map(np.shape, batch) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    assert batch["source"].labels.max() < load_label_set(settings.data.label_set).num_classes


def test_options_of_the_paper_step_are_fields_of_its_network():
    model = paper_step.create_settings(scale=4, scan_blocks=False, rematerialise=True).model
    assert (model.backbone.scan_blocks, model.backbone.rematerialise) == (False, True)


def compile_small(settings):
    if settings.data.batch_size == 2:
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")
    return functools.partial(dict, batch_size=settings.data.batch_size)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_does_not_fit_says_so_and_the_others_are_measured(jobs):
    steps = list(methods.list_steps(["gta5_to_cityscapes"], ["cbst", "minent_cp"], "float32"))
    waiting = [({"methods": step.methods}, step.settings) for step in steps]
    found = methods._measure_all(compile_small, waiting, jobs)
    assert sorted(found, key=lambda row: row[0]["methods"]) == [
        ({"methods": ("cbst",)}, {"does_not_fit": "RESOURCE_EXHAUSTED: out of memory"}),
        ({"methods": ("minent_cp",)}, {"batch_size": 1}),
    ]


def test_every_step_of_a_method_is_measured_once(monkeypatch, tmp_path, capsys):
    seen = []

    def compile_step(settings, num_steps):
        seen.append(settings)
        found = {"seconds": 1.0, "temporary_bytes": 1, "argument_bytes": 1, "compile_seconds": 2.0}
        return lambda: found

    monkeypatch.setattr(methods, "_compile", compile_step)
    output = tmp_path / "methods.json"
    arguments = ["--methods", "cbst", "st", "mrkld", "minent_cp", f"--output={output}"]
    assert methods.main(arguments) == 0
    rows = json.loads(output.read_text())["rows"]
    expected = [["cbst", "st"], ["mrkld"], ["minent_cp"]]
    assert [row["methods"] for row in rows] == 2 * expected
    assert [row["batch_size"] for row in rows] == 2 * [2, 2, 1]
    assert "cbst, st" in capsys.readouterr().out
    methods.main(arguments)  # What is measured is kept.
    assert len(seen) == 6
    for settings in seen:
        _, (_, batch, _) = paper_step.describe(settings)
        drawn = paper_step.draw_batch(settings)
        assert jax.tree.map(np.shape, drawn) == jax.tree.map(lambda leaf: leaf.shape, batch)


def test_the_page_has_the_tables_of_the_measurements():
    page = (ROOT / "docs" / "full_size.md").read_text()
    paths = sorted((ROOT / "benchmarks" / "measured").glob("methods_*.json"))
    assert paths
    for path in paths:
        tables = methods_table.write_tables(json.loads(path.read_text()))
        command = f"python -m benchmarks.methods_table --input=benchmarks/measured/{path.name}"
        assert command in page
        assert tables in page, f"{command} prints what docs/full_size.md should have"


def test_the_table_of_a_chip_says_what_does_not_fit(tmp_path, capsys):
    def row(method, gigabytes, seconds):
        step = {"experiment": "gta5_to_cityscapes", "methods": [method], "dtype": "float32"}
        found = {"argument_bytes": 10**9, "temporary_bytes": int((gigabytes - 1) * 1e9),
                 "bytes_of_memory": 123.4e9, "flop": 5.67e12}  # fmt: skip
        known = {"batch_size": 1, "written_out": True, "roofline_seconds": seconds}
        return step | found | known

    rows = [row("mcd", 17.2, 0.4), row("clan", 17.1, 0.3), row("source_only", 9.0, 0.2)]
    kept = {key: rows[0][key] for key in ("experiment", "dtype", "batch_size", "written_out")}
    rows.append(kept | {"methods": ["adr"], "does_not_fit": "RESOURCE_EXHAUSTED: 30G"})
    path = tmp_path / "methods_v5e.json"
    command = "python -m benchmarks.methods --topology=v5e:1x1 --output=a.json"
    path.write_text(json.dumps({"command": command, "rows": rows}))
    assert methods_table.main([f"--input={path}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "GTA5 → Cityscapes, compiled for v5e:1x1, float32, blocks written out:",
        "",
        "| method | batch | memory, GB | moved, GB | TFLOP | roofline, s | times `source_only` |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| `source_only` | 1 | 9.0 | 123 | 5.7 | 0.200 | 1.00 |",
        "| `clan` | 1 | 17.1 | 123 | 5.7 | 0.300 | 1.50 |",
        "| `mcd` | 1 | 17.2, does not fit 16 GiB | 123 | 5.7 | 0.400 | 2.00 |",
        "| `adr` | 1 | does not fit | - | - | - | - |",
    ]
