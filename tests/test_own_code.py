"""A run keeps copies of the user's own code, and its faults end in one sentence."""

import pathlib
import re
import textwrap

import pytest

from alp_jax.errors import UserError
from alp_jax.objective.settings import term
from alp_jax.settings.schema import to_config
from alp_jax.workdir import config, own_files
from alp_jax.workdir.settings import RunSettings, build_settings
from tests import tiny
from tests.commands import call, read_error

TERM = """
    import dataclasses
    import jax.numpy as jnp
    from alp_jax.objective.types import Contribution, Term
    from alp_jax.settings.schema import setting

    @dataclasses.dataclass(frozen=True)
    class Constant(Term):
        value: float = setting(1.0, "The loss.")
        views = property(lambda self: ("target",))

        def loss(self, seen):
            return {result}

    TERM = Constant
"""


def write_term(folder: pathlib.Path, result: str = "Contribution(jnp.float32(self.value))") -> str:
    path = folder / "my_term.py"
    path.write_text(textwrap.dedent(TERM).replace("{result}", result))
    return str(path)


def create_settings(path: str) -> RunSettings:
    run_config = tiny.get_config(pathlib.Path("unused"))
    with run_config.unlocked():
        run_config.terms.mine = term(path, value=2.0)
    return build_settings(run_config)


def get_kind(settings: RunSettings) -> str:
    return str(to_config(settings).terms.mine.kind)


def test_a_run_keeps_the_code_that_it_was_started_with(tmp_path, caplog):
    path, workdir = write_term(tmp_path), tmp_path / "run"
    settings = create_settings(path)
    config.save(settings, workdir)
    config.save(settings, workdir)  # It continues.
    assert get_kind(config.load(workdir)) == path
    (copy,) = (workdir / own_files.FOLDER).iterdir()
    content = copy.read_bytes()

    write_term(tmp_path, "Contribution(jnp.float32(3 * self.value))")
    with pytest.raises(UserError, match=r"my_term.py was changed since the run in .* was started"):
        config.save(settings, workdir)
    assert copy.read_bytes() == content
    with caplog.at_level("INFO", logger="alp_jax"):
        assert get_kind(config.load(workdir)) == str(copy)
    assert "was changed or is gone since the run was started: using" in caplog.text
    pathlib.Path(path).unlink()
    loaded = config.load(workdir)
    assert get_kind(loaded) == str(copy)
    assert loaded.terms["mine"].value == 2.0


def test_files_of_one_name_in_two_folders_have_two_copies(tmp_path):
    fields = {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        fields[name] = {"kind": write_term(tmp_path / name, name)}
    own_files.save({"terms": fields, "kind": "alignment"}, tmp_path / "run")
    copies = sorted((tmp_path / "run" / own_files.FOLDER).iterdir())
    assert len(copies) == 2
    assert {copy.read_bytes() for copy in copies} == {
        pathlib.Path(block["kind"]).read_bytes() for block in fields.values()
    }


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("seen.outputs.logits['mian']", r"my_term.py fails, line 13 \(KeyError: 'mian'\): mend"),
        ("jnp.float32(1)", "The loss of config.terms.mine returns .*: expected Contribution of"),
    ],
)
def test_a_fault_in_own_code_is_one_sentence(tmp_path, data_dir, result, message):
    path = write_term(tmp_path, result)
    experiment = tmp_path / "experiment.py"
    experiment.write_text(
        "import pathlib\n"
        "from alp_jax.objective.settings import term\n"
        "from tests import tiny\n"
        "def get_config(variant=None):\n"
        f"    config = tiny.get_config(pathlib.Path({str(data_dir)!r}))\n"
        "    with config.unlocked():\n"
        f"        config.terms.mine = term({path!r})\n"
        "    return config\n"
    )
    done = call("alp_jax.main", f"--config={experiment}", f"--workdir={tmp_path / 'run'}")
    error = read_error(done)
    assert not (tmp_path / "run" / config.FILE_NAME).exists()  # The mended file may start it.
    assert re.search(message, error), error
