"""The documentation: built strictly, its examples run, and what it quotes is in the code."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import alp_jax
import docs_hooks
from alp_jax.settings.compare import flatten
from alp_jax.settings.schema import describe
from alp_jax.workdir.settings import build_settings
from configs import default, domain_shift
from tests import tiny
from tests.commands import ROOT

DOCS = ROOT / "docs"
FIELD = re.compile(r"(?<![\w./])(?:--)?(config(?:\.[A-Za-z_]\w*)+)")
# Attributes of a configuration, examples of mistakes, and a field of a file in docs/own_parts.md.
NO_FIELDS = {"config.json", "config.FIELD", "config.sed", "config.model.backbone.width"}
MARKDOWN_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    """The built site; a warning, such as a link to nowhere, is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_the_site_asks_nothing_of_the_network(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 12
    for page in pages:
        loaded = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="([^"]+)"', page.read_text())
        remote = [url for url in loaded if url.startswith(("http:", "https:", "//"))]
        assert not remote, (page, remote)


def test_formulas_and_directives_are_replaced(site):
    method = (site / "method.html").read_text()
    assert method.count("<math") > 15
    assert "arithmatex" not in method
    for page in site.glob("*.html"):
        assert "{{" not in page.read_text(), page


def test_every_field_is_described(site):
    text = (site / "configuration.html").read_text()
    for row in describe(build_settings(default.get_config())):
        assert f"<code>{row.name.split('.')[-1]}</code>" in text
        assert row.sentence.endswith((".", ".)")), row


def test_fields_in_the_pages_exist():
    found = [default.get_config(method) for method in default.list_methods()]
    names = [name for config in (*found, domain_shift.get_config()) for name in flatten(config)]
    known = {"config"}
    for name in names:
        parts = name.split(".")
        known |= {".".join(["config", *parts[:end]]) for end in range(1, len(parts) + 1)}
    readmes = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data_prep" / "README.md"]
    for path in (*readmes, *DOCS.glob("*.md")):
        text = path.read_text()
        own = tuple(re.findall(r"^ *(config\.(?:terms|views)\.\w+) = ", text, re.MULTILINE))
        for name in FIELD.findall(text):
            field = name.removesuffix(".unlocked")
            is_own = any(f"{field}.".startswith(f"{block}.") for block in own)
            assert field in known | NO_FIELDS or is_own, (path.name, name)


def test_links_of_the_readmes_lead_somewhere():
    for path in (ROOT / "README.md", ROOT / "data_prep" / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in MARKDOWN_LINK.findall(path.read_text()):
            assert (path.parent / target).exists(), (path, target)


def test_files_that_the_pages_name_are_there():
    folders = "alp_jax|benchmarks|configs|data_prep|docs|notebooks|tests"
    path = re.compile(rf"(?<![\w/.])(?:{folders})/[\w/.-]+\.(?:py|ya?ml|md|json|ipynb)\b")
    pages = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "data_prep" / "README.md"]
    named = {name for page in pages for name in path.findall(page.read_text())}
    assert len(named) > 20
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]


def test_messages_of_the_troubleshooting_page_are_in_the_code():
    sources = [path.read_text() for name in ("alp_jax", "data_prep", "configs")
               for path in (ROOT / name).rglob("*.py")]  # fmt: skip
    # Adjacent string literals are one.
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    page = (DOCS / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(rows) > 10
    for message in rows:
        assert message in code, message


def test_roofline_reads_results(tmp_path, monkeypatch):
    rows = [{"variant": "float32", "temporary_bytes": 2e9, "bytes_moved": 3e11,
             "bytes_of_memory": 2e11, "bytes_exchanged": 1e9, "compile_seconds": 300,
             "roofline_seconds": 0.36}]  # fmt: skip
    content = {"command": "python -m benchmarks.tpu", "rows": rows}
    content |= {"topology": "v5e:2x2", "data": 2, "space": 2}
    (tmp_path / "a.json").write_text(json.dumps(content))
    monkeypatch.setattr(docs_hooks, "ROOT", tmp_path)
    table = docs_hooks.roofline(".")
    assert (
        "| v5e:2x2 (data 2, space 2) | float32 | 2.0 | 300 | 200 | 1.00 | 0.360 | 15.0 | 300 |"
    ) in table
    (tmp_path / "a.json").unlink()
    assert "--output=results/v5e.json" in docs_hooks.roofline("results")


def test_the_examples_in_python_run(data_dir, tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "toy_cities.py").write_text(
        "import pathlib\nfrom tests import tiny\n\n\n"
        "def get_config(variant):\n"
        f"    return tiny.get_config(pathlib.Path({str(data_dir)!r}), variant)\n"
    )
    (tmp_path / "frames").mkdir()
    Image.fromarray(tiny.make_example(1)["image"]).save(tmp_path / "frames" / "street.png")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / "python.md").read_text(), re.M | re.S)
    assert len(blocks) >= 8
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    prediction = names["prediction"]
    assert isinstance(prediction, alp_jax.Prediction)
    assert prediction.label_ids.shape == (tiny.HEIGHT, tiny.WIDTH)
    assert np.isfinite(prediction.entropy).all()
    for written in ("overlay.png", "predictions/overlay/street.png", "exported/segmenter.jax",
                    "runs/alp/report/report.html"):  # fmt: skip
        assert (tmp_path / written).stat().st_size > 100, written
    used = "\n".join(blocks)
    for name in set(alp_jax.__all__) - {"Prediction"}:
        assert f"alp_jax.{name}" in used, f"docs/python.md has no example of {name}"


def test_runs_of_own_classes_start_from_weights_of_the_same_classes(tmp_path, monkeypatch):
    page = (DOCS / "own_data.md").read_text()
    names = ("own.py", "three.py", "cracks.py")
    texts = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for name, text in zip(names, texts, strict=True):
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    label_sets = []
    for name in names:
        path = str(tmp_path / name)
        warmup, run = (build_settings(alp_jax.read_config(path, v)) for v in ("warmup", "alp_gi"))
        assert not warmup.init_from
        assert f"--config={name}:warmup --workdir={run.init_from}\n" in page
        assert run.data.label_set == warmup.data.label_set
        label_sets.append(run.data.label_set)
    assert label_sets == ["cityscapes_16", "my_classes.yaml", "cracks.yaml"]
    monkeypatch.delitem(sys.modules, "own")


def test_importing_the_package_is_cheap():
    script = (
        "import sys, alp_jax\n"
        "assert not {'jax', 'tensorflow', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert set(alp_jax.__all__) <= set(dir(alp_jax))\n"
        "alp_jax.load_segmenter\n"
        "assert 'jax' in sys.modules and 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = alp_jax.nothing
