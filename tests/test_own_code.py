"""A run keeps copies of the user's own code, and its faults end in one sentence."""

import pathlib
import re
import textwrap

import jax
import jax.numpy as jnp
import pytest

from alp_jax.errors import UserError
from alp_jax.models.settings import backbone, head
from alp_jax.objective.settings import term, view
from alp_jax.run import assembly
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
    (workdir / "checkpoints" / "1").mkdir(parents=True)
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


def test_a_mended_file_starts_a_run_that_has_no_checkpoint(tmp_path):
    workdir = tmp_path / "run"
    config.save(create_settings(write_term(tmp_path, "1 / 0")), workdir)
    path = write_term(tmp_path)
    config.save(create_settings(path), workdir)
    (copy,) = (workdir / own_files.FOLDER).iterdir()
    assert copy.read_text() == pathlib.Path(path).read_text()
    assert get_kind(config.load(workdir)) == path


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
        ("jnp.float32(1)", "The loss of config.terms.mine returns an array: expected Contribution"),
        (
            "Contribution(jnp.ones((2, 3)))",
            r"of config.terms.mine, the loss is an array of shape \(2, 3\): expected one number",
        ),
        ("Contribution('a')", "of config.terms.mine, the loss is str: expected one number"),
        (
            "Contribution(None, {'a': jnp.ones(2)})",
            r"of config.terms.mine, the scalar a is an array of shape \(2,\): expected one number",
        ),
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


NETWORK = """
    import dataclasses
    import flax.linen as nn
    from alp_jax.models.parts import Backbone, Decoder, Group

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            features = nn.Conv(4, (4, 4), 4)(images)
            return {features}

    class Logits(nn.Module):
        channels: int

        @nn.compact
        def __call__(self, stages, *, train):
            return nn.Dense(self.channels)(stages[-1])

    @dataclasses.dataclass(frozen=True)
    class MyBackbone(Backbone):
        stage_channels = property(lambda self: {channels})
        create = lambda self, dtype: Layer()
        group = lambda self, path: {group}

    @dataclasses.dataclass(frozen=True)
    class MyDecoder(Decoder):
        create = lambda self, num_classes, dtype: Logits({classes})
        group = lambda self, path: Group("decoder")

    BACKBONE, DECODER = MyBackbone, MyDecoder
"""
SOUND = {
    "features": "[features]",
    "channels": "(4,)",
    "group": 'Group("backbone")',
    "classes": "num_classes",
}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({}, ""),
        ({"features": "features"}, r"The backbone returns \(.*\): expected a list with the"),
        ({"features": "None"}, "The backbone returns NoneType: expected a list with the features"),
        ({"channels": "(5,)"}, r"features of \(4,\) channels and declares stage_channels \(5,\)"),
        ({"classes": "7"}, r"The decoder of the head main returns \(.*, 7\): expected logits"),
        ({"group": "'backbone'"}, "to return a Group for .*, and it returns 'backbone'; mend"),
    ],
)
def test_a_network_of_other_shapes_than_it_should_have_is_one_sentence(tmp_path, fault, message):
    path, text = tmp_path / "network.py", textwrap.dedent(NETWORK)
    for name, value in (SOUND | fault).items():
        text = text.replace(f"{{{name}}}", value)
    path.write_text(text)
    run_config = tiny.get_config(pathlib.Path("unused"), "source_only")
    with run_config.unlocked():
        run_config.model.backbone = backbone(str(path))
        run_config.model.heads.main = head(str(path))

    def run() -> None:
        segmenter = assembly.create_setup(build_settings(run_config)).segmenter
        params, model_state = jax.eval_shape(segmenter.init, jax.random.key(0))
        segmenter.groups(params)
        images = jnp.zeros((1, 32, 48, 3))
        jax.eval_shape(lambda p: segmenter.apply(p, model_state, images, train=False), params)

    if message:
        with pytest.raises(UserError, match=message):
            run()
    else:
        run()


def test_a_view_that_describes_nothing_is_one_sentence(tmp_path):
    path = tmp_path / "my_view.py"
    path.write_text(
        "import dataclasses\n"
        "from alp_jax.objective.types import View\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Nothing(View):\n"
        "    domains = property(lambda self: ('source',))\n"
        "    make = lambda self, batch, key: batch['source']\n"
        "    describe = lambda self, name, surroundings: None\n"
        "VIEW = Nothing\n"
    )
    run_config = tiny.get_config(pathlib.Path("unused"))
    with run_config.unlocked():
        run_config.views.mine = view(str(path))
    with pytest.raises(UserError, match=r"describe of config.views.mine returns None: expected"):
        build_settings(run_config)
