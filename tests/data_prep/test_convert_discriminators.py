"""Published discriminators give the same logits here, start a run, and come back bit by bit."""

import collections
import itertools

import jax
import numpy as np
import pytest
import torch
from torch import nn

from alp_jax.errors import UserError
from alp_jax.models.discriminator import DomainDiscriminator
from alp_jax.run import assembly
from alp_jax.workdir import checkpoint, config
from alp_jax.workdir.settings import build_settings
from data_prep.convert_weights import discriminators, exporting, importing
from data_prep.convert_weights.layouts import AUTO
from tests import tiny
from tests.commands import call, read_error
from tests.data_prep import published_networks as published
from tests.tiny import change

WIDTH = 4  # 64 in the published files.


def create_advent(num_classes=19, width=WIDTH):
    """valeoai/ADVENT, get_fc_discriminator: a Sequential of convolutions and leaky ReLUs."""
    sizes = [num_classes, width, 2 * width, 4 * width, 8 * width, 1]
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def create_adaptsegnet(num_classes=19, width=WIDTH):
    """wasidennis/AdaptSegNet and RoyalVane/CLAN, FCDiscriminator: the same with names."""
    found = create_advent(num_classes, width)
    names = ["conv1", "relu1", "conv2", "relu2", "conv3", "relu3", "conv4", "relu4", "classifier"]
    return nn.Sequential(collections.OrderedDict(zip(names, found, strict=True)))


CREATE = {"advent": create_advent, "adaptsegnet": create_adaptsegnet}


def save(path, network, prefix=""):
    tensors = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save(tensors, path)
    return tensors


@pytest.fixture
def files(tmp_path):
    """A segmenter of two levels, and its two discriminators, AdvEnt's."""
    torch.manual_seed(1)
    networks = {"main": create_advent(), "aux": create_advent()}
    save(tmp_path / "segmenter.pth", published.create("advent"))
    for head, network in networks.items():
        save(tmp_path / f"D_{head}.pth", network)
    return tmp_path, networks


def convert(folder, layout="advent", **paths):
    workdir = folder / "workdir"
    choices = importing.Choices(layout, discriminators=paths)
    report = importing.import_weights(folder / "segmenter.pth", workdir, choices)
    return workdir, report


@pytest.mark.parametrize("naming", CREATE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_are_those_of_the_published_discriminator(naming, dtype, tmp_path):
    torch.manual_seed(0)
    network = CREATE[naming]()
    save(tmp_path / "D.pth", network)
    found = discriminators.read(tmp_path / "D.pth", num_classes=19)
    assert found.widths == (WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH)
    maps = np.random.default_rng(0).uniform(0, 1, (2, 64, 96, 19))
    with torch.no_grad():
        expected = network.to(dtype)(torch.from_numpy(maps).to(dtype).permute(0, 3, 1, 2))
    ours = DomainDiscriminator.create(found.widths, "float32")
    logits = ours.apply(found.params, maps.astype(np.float32))
    np.testing.assert_allclose(logits, expected.permute(0, 2, 3, 1).numpy(), rtol=0, atol=1e-6)
    assert np.abs(expected.numpy()).max() > 0.05


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("naming", CREATE)
def test_the_way_back_gives_the_bits_of_the_file(naming, prefix, files):
    folder, _ = files
    tensors = save(folder / "D.pth", CREATE[naming](), prefix)
    workdir, _ = convert(folder, main=folder / "D.pth")
    exporting.export_discriminator(workdir, folder / "back.pth", AUTO, "latest", key="main")
    back = torch.load(folder / "back.pth", weights_only=True)
    assert list(back) == list(tensors)
    for key, value in tensors.items():
        assert back[key].numpy().tobytes() == value.numpy().tobytes()
    # Another code base's names, too.
    other = {"advent": "clan", "adaptsegnet": "advent"}[naming]
    exporting.export_discriminator(workdir, folder / "other.pth", other, "latest", key="main")
    renamed = torch.load(folder / "other.pth", weights_only=True)
    names = {
        "clan": list(create_adaptsegnet().state_dict()),
        "advent": list(create_advent().state_dict()),
    }
    assert list(renamed) == names[other]
    for value, found in zip(tensors.values(), renamed.values(), strict=True):
        assert torch.equal(value, found)


def test_half_precision_comes_back(files):
    folder, networks = files
    tensors = save(folder / "D_main.pth", networks["main"].half())
    workdir, _ = convert(folder, main=folder / "D_main.pth")
    exporting.export_discriminator(workdir, folder / "back.pth", AUTO, "latest", key="main")
    back = torch.load(folder / "back.pth", weights_only=True)
    assert {value.dtype for value in back.values()} == {torch.float16}
    assert all(torch.equal(back[key], value) for key, value in tensors.items())


def test_a_converted_workdir_has_the_terms_that_own_them(files):
    folder, networks = files
    workdir, report = convert(folder, main=folder / "D_main.pth", aux=folder / "D_aux.pth")
    assert "discriminator of the head aux: D_aux.pth, 5 layers" in report
    assert "--config.init_terms=same" in report
    settings = config.load(workdir)
    assert settings.terms["adversarial_aux"].head == "aux"
    for term in (settings.terms["adversarial"], settings.terms["adversarial_aux"]):
        assert term.widths == (WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH)
        assert term.aligned_map == "normalized_self_information"
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        own = checkpoints.restore_own(0, checkpoints.own_parameters(0))
    for key, network in networks.items():
        for i, layer in enumerate(module for module in network if isinstance(module, nn.Conv2d)):
            kernel = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
            np.testing.assert_array_equal(own[key][f"conv{i}"]["kernel"], kernel)
            np.testing.assert_array_equal(own[key][f"conv{i}"]["bias"], layer.bias.detach())


def test_without_discriminators_a_conversion_is_as_before(files):
    workdir, report = convert(files[0])
    assert "init_terms" not in report
    assert not (workdir / discriminators.FILE_NAME).exists()
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        assert checkpoints.own_parameters(0) == {}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (create_advent(16), "takes maps of 16 channels, and the network has 19 classes"),
        (nn.Sequential(nn.Conv2d(19, 4, 4, 2, 1)), "holds no discriminator that is known"),
        (published.create("advent"), "holds no discriminator that is known"),
        (
            nn.Sequential(nn.Conv2d(19, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 4)),
            r"Layer 1 of the discriminator .* shape \(4, 19, 3, 3\) .* expected \(4, 19, 4, 4\)",
        ),
        (
            nn.Sequential(nn.Conv2d(19, 4, 4), nn.ReLU(), nn.Conv2d(4, 2, 4)),
            r"Layer 2 of the discriminator .* shape \(2, 4, 4, 4\) .* expected \(1, 4, 4, 4\)",
        ),
    ],
)
def test_other_files_are_refused(network, message, tmp_path):
    save(tmp_path / "D.pth", network)
    with pytest.raises(UserError, match=message):
        discriminators.read(tmp_path / "D.pth", num_classes=19)


def test_numbers_of_no_sound_network_are_refused(tmp_path):
    network = create_advent()
    network[2].bias.data[1] = float("nan")
    save(tmp_path / "D.pth", network)
    with pytest.raises(UserError, match=r"2\.bias \(here conv1/bias\)"):
        discriminators.read(tmp_path / "D.pth", num_classes=19)


def test_a_head_that_the_network_lacks_is_refused(files):
    folder, _ = files
    save(folder / "segmenter.pth", published.create("advent_single"))
    with pytest.raises(UserError, match=r"--discriminators has aux:.* has the heads main"):
        convert(folder, "advent_single", aux=folder / "D_aux.pth")


# A run that starts from a workdir with discriminators.


@pytest.fixture
def start(data_dir, tmp_path):
    """Starts a run from the state of another one: returns (fresh state, state of the start)."""

    def start(variant="advent", *, widths=(4, 4), **fields):
        theirs = build_settings(tiny.get_config(data_dir, "agp_gi"))
        state = assembly.create_train_state(assembly.create_setup(theirs), jax.random.key(7))
        workdir = tmp_path / "start"
        if not workdir.exists():
            config.save(theirs, workdir)
            with checkpoint.Checkpoints(workdir) as checkpoints:
                checkpoints.save(3, state)
        fields = {"init_from": str(workdir), "init_heads": "new", **fields}
        ours = tiny.get_config(data_dir, variant)
        if "adversarial" in ours.terms:
            fields["terms.adversarial.widths"] = widths
        settings = build_settings(change(ours, **fields))
        entry = assembly.create_train_state(assembly.create_setup(settings), jax.random.key(1))
        return state.discriminator, entry.discriminator, assembly.init_from(settings, entry)

    return start


def same(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def test_terms_begin_anew_by_default_and_take_what_is_there_on_demand(start, caplog):
    theirs, fresh, started = start()
    assert same(started.discriminator, fresh)
    with caplog.at_level("INFO", logger="alp_jax"):
        theirs, fresh, started = start(init_terms="same")
    assert "From there, too: what is trained of config.terms.adversarial." in caplog.text
    assert same(started.discriminator.params["main"], theirs.params["main"])
    assert same(started.discriminator.params["aux"], fresh.params["aux"])  # Not in the weights.
    assert same(started.discriminator.opt_state, fresh.opt_state)
    assert not same(theirs.params["main"], fresh.params["main"])


def test_other_shapes_and_no_terms_are_refused(start, saved_run):
    with pytest.raises(
        UserError,
        match=r"^config.init_terms is 'same', and the parameters of config.terms.adversarial in "
        r"\S+/start \(config.init_from\) have other shapes: conv0/bias is \(4,\) there",
    ):
        start(init_terms="same", widths=(8, 4))
    with pytest.raises(
        UserError,
        match=r"^config.init_terms is 'same', and \S+ \(config.init_from\) has no discriminator or "
        r"other parameters of config.terms.adversarial, config.terms.adversarial_aux: give weights",
    ):
        start(init_terms="same", init_from=str(saved_run))
    with pytest.raises(UserError, match=r"adversarial_alp, only those stored as main: give"):
        start("source_only+alp", init_terms="same")


@pytest.mark.parametrize("inside", ["checkpoints", "checkpoints/3", "config.json"])
def test_a_place_inside_of_a_run_names_the_run(start, tmp_path, inside):
    start()
    run = tmp_path / "start"
    with pytest.raises(UserError, match=f"/{inside}', where no run is.* such as {run}, which it"):
        start(init_from=str(run / inside))


def test_a_method_without_such_terms_starts_all_the_same(start):
    _, fresh, started = start("source_only", init_terms="same")
    assert fresh is None
    assert started.discriminator is None


# The command.


def test_the_command_converts_both_ways(files):
    folder, _ = files
    arguments = [f"--input={folder}/segmenter.pth", f"--output={folder}/workdir", "--layout=advent"]
    given = f"--discriminators=main:{folder}/D_main.pth,aux:{folder}/D_aux.pth"
    result = call("data_prep.convert_weights", *arguments, given)
    assert result.returncode == 0, result.stderr
    arguments = [f"--input={folder}/workdir", f"--output={folder}/back.pth"]
    result = call("data_prep.convert_weights", *arguments, "--discriminator=aux")
    assert "back.pth holds the discriminator aux of checkpoint 0" in result.stdout
    assert "10 tensors, as in D_aux.pth" in result.stdout
    assert (folder / "back.pth").exists()


@pytest.mark.parametrize(
    ("source", "argument", "message"),
    [
        ("workdir", "--discriminators=main:x.pth", "is a workdir: give --discriminator=main"),
        ("workdir", "--discriminator=aux", "has no discriminator 'aux': it has main."),
        ("segmenter.pth", "--discriminator=main", "give --discriminators=HEAD:FILE"),
        ("segmenter.pth", "--discriminators=D.pth", "expected HEAD:FILE for different heads"),
        ("segmenter.pth", "--discriminators=main:nowhere.pth", "there is no file nowhere.pth"),
    ],
)
def test_wrong_commands_end_in_one_sentence(source, argument, message, files):
    folder, _ = files
    convert(folder, main=folder / "D_main.pth")
    arguments = [f"--input={folder / source}", f"--output={folder}/out.pth", argument]
    assert message in read_error(call("data_prep.convert_weights", *arguments))


def test_a_layout_without_discriminators_is_refused(files):
    workdir, _ = convert(files[0], main=files[0] / "D_main.pth")
    with pytest.raises(UserError, match="crst, whose code trains no discriminator"):
        exporting.export_discriminator(workdir, files[0] / "x.pth", "crst", "latest", key="main")
