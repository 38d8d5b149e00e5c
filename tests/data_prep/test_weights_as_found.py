"""Weights as they are found: prefixes, entries, formats, half precision; every tensor counted."""

import functools
import json
import math
import pathlib
import re
import sys
import warnings
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from alp_jax.errors import UserError
from data_prep.convert_weights import (
    entries,
    exporting,
    importing,
    prefixes,
    record,
    soundness,
    weight_files,
)
from data_prep.convert_weights.importing import Choices
from data_prep.convert_weights.layouts import AUTO, LAYOUTS
from data_prep.convert_weights.recognition import PublishedFile
from data_prep.convert_weights.state_dict import StateDict
from tests.commands import call, read_error
from tests.data_prep import published_networks as published

COMMAND = "data_prep.convert_weights"
TORCHVISION = Choices("torchvision")


@functools.cache
def create(layout="torchvision"):
    """The state dict of a published network; not to be changed."""
    return dict(published.create(layout).state_dict())


def put(prefix, tensors):
    return {prefix + key: tensor for key, tensor in tensors.items()}


def save(path, content):
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({k: v.contiguous() for k, v in content.items()}, path)
    else:
        torch.save(content, path)


def convert(folder, content, choices=TORCHVISION, name="file.pth"):
    """Saves a file and converts it; returns its record and the report."""
    save(folder / name, content)
    report = importing.import_weights(folder / name, folder / "workdir", choices)
    found = record.load(folder / "workdir")
    assert found is not None
    return found, report


def refuse(folder, content, choices=TORCHVISION, name="file.pth"):
    """Saves a file, and returns the sentence that its conversion ends in."""
    with pytest.raises(UserError) as error:
        convert(folder, content, choices, name)
    assert not (folder / "workdir").exists()
    message = str(error.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def export(folder, name="back.pth"):
    exporting.export_weights(folder / "workdir", folder / name, AUTO, "latest")
    if name.endswith(".safetensors"):
        return safetensors.torch.load_file(folder / name)
    return torch.load(folder / name, weights_only=True)


def assert_same_bits(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert (actual[key].dtype, actual[key].shape) == (value.dtype, value.shape), key
        integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()]
        ours, theirs = (t.contiguous().view(-1).view(integers) for t in (actual[key], value))
        assert torch.equal(ours, theirs), key


# Prefixes.


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.backbone.", "my.own_prefix.1."])
def test_a_prefix_is_taken_off_and_said_and_comes_back(prefix, tmp_path):
    content = put(prefix, create())
    found, report = convert(tmp_path, content)
    assert found.prefix == prefix
    assert f"  taken off their names: the prefix {prefix}\n" in report
    assert_same_bits(export(tmp_path), content)


def moco():
    """MoCo's: two encoders, one with a projector, and a queue."""
    encoder = {key: tensor for key, tensor in create().items() if not key.startswith("fc.")}
    others = {"encoder_q.fc.0.weight": torch.ones(4, 4), "queue": torch.ones(8, 8)}
    counter = {"queue_ptr": torch.zeros(1, dtype=torch.int64)}
    return put("encoder_q.", encoder) | others | put("encoder_k.", encoder) | counter


def test_which_of_two_encoders_is_taken_is_the_users_choice(tmp_path):
    content = {"state_dict": moco(), "epoch": 200}
    assert (
        "holds 2 networks, which differ in what stands before their keys: say which with "
        "--prefix=encoder_q. or --prefix=encoder_k., and the others are left out."
    ) in refuse(tmp_path, content)
    query = Choices("torchvision", prefix="encoder_q")
    assert "it has encoder_q.fc.0.weight, which are unknown; " in refuse(tmp_path, content, query)
    query = Choices("torchvision", prefix="encoder_q.", ignore=r"encoder_q\.fc\..*")
    found, report = convert(tmp_path, content, query)
    size = sum(key.startswith("encoder_k.") for key in moco()) + 2
    assert f"  ignored: {size} tensors, left out by --prefix=encoder_q.\n" in report
    assert "  ignored: 1 tensors, left out by --ignore=encoder_q\\.fc\\..*\n" in report
    assert "  left behind: epoch, beside the state dict\n" in report
    # Every tensor is used, or has a reason.
    used = len(moco()) - len(found.reasons)
    assert f"  used: {used} tensors" in report
    assert found.keys == list(moco())
    assert_same_bits(export(tmp_path)["state_dict"], moco())


def test_tensors_beside_the_network_need_a_choice(tmp_path):
    content = put("backbone.", create()) | {"head.weight": torch.ones(3, 3), "step": torch.ones(1)}
    assert (
        "holds a network with the prefix backbone. and 2 tensors without it (head.weight, step): "
        "give --prefix=backbone. to leave these out, or --ignore"
    ) in refuse(tmp_path, content)
    found, _ = convert(tmp_path, content, Choices("torchvision", ignore="head.weight|step"))
    assert {key for key in found.reasons if "." not in key} == {"step"}
    assert_same_bits(export(tmp_path), content)


def test_a_network_without_prefix_and_another_inside(tmp_path):
    content = create() | put("ema.", create())
    assert "say which with --prefix= or --prefix=ema., and" in refuse(tmp_path, content)
    found, _ = convert(tmp_path, content, Choices("torchvision", prefix=""))
    assert found.prefix == ""
    assert found.reasons["ema.conv1.weight"] == "left out by --prefix="


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (Choices(prefix="teacher."), "--prefix is 'teacher.', and no key in"),
        (Choices(ignore="head"), "--ignore is 'head', which matches none of the keys in"),
        (Choices(ignore="("), "--ignore is '(', which is no regular expression (missing ),"),
        (Choices(ignore=r".*conv1\.weight"), "lacks conv1.weight, and holds"),
        (Choices(entry="teacher"), "is one state dict as a whole: leave --entry out"),
    ],
)
def test_choices_that_fit_nothing_are_one_sentence(choices, message, tmp_path):
    assert message in refuse(tmp_path, create(), choices)


PARTS = st.sampled_from(["module", "_orig_mod", "model", "a.b", "layer1", "x0"])


@given(st.lists(PARTS, max_size=4))
def test_any_nesting_of_prefixes_is_found(parts):
    prefix = "".join(f"{part}." for part in parts)
    shapes = {key: tuple(tensor.shape) for key, tensor in create("caffe_init").items()}
    selection = prefixes.select(
        pathlib.Path("file.pth"),
        put(prefix, shapes),
        lambda found: PublishedFile(pathlib.Path(), found).holds_network([LAYOUTS["clan"]]),
        prefix=None,
        ignore=None,
    )
    assert (selection.prefix, selection.shapes, selection.reasons) == (prefix, shapes, {})


# Entries.


@pytest.mark.parametrize(
    "entry",
    [("model_state_dict",), ("ema", "module"), ("my own/thing",)],
)
def test_an_entry_is_found_and_said_and_comes_back(entry, tmp_path):
    content = create()
    for name in reversed(entry):
        content = {
            "epoch": 1,
            "optimizer": {"state": {0: {"step": torch.ones(2, 2)}}},
            name: content,
        }
    found, report = convert(tmp_path, content)
    assert found.entry == entry
    assert f"  taken from the entry {'/'.join(entry)}\n" in report
    assert "epoch, optimizer" in report
    back = export(tmp_path)
    for name in entry:
        assert list(back) == [name]
        back = back[name]
    assert_same_bits(back, create())


def test_which_of_several_entries_is_taken_is_the_users_choice(tmp_path):
    content = {"student": create(), "ema": {"teacher": create()}, "loss": torch.ones(3)}
    assert (
        "holds several state dicts, student (122 tensors), ema/teacher (122 tensors): say which "
        "with --entry=student or --entry=ema/teacher."
    ) in refuse(tmp_path, content)
    assert "--entry is 'teacher', but" in refuse(tmp_path, content, Choices(entry="teacher"))
    found, report = convert(tmp_path, content, Choices("torchvision", entry="ema/teacher"))
    assert found.entry == ("ema", "teacher")
    assert "  left behind: student, loss, beside the state dict\n" in report


NESTED = st.recursive(
    st.sampled_from([1, "text", None]),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", 0, 1]), inner, max_size=3),
    max_leaves=8,
)


@given(NESTED, st.lists(st.sampled_from(["net", "ema", "model"]), max_size=4))
def test_a_state_dict_is_found_at_any_depth(beside, names):
    network = {"conv1.weight": np.zeros((2, 2)), "conv1.bias": np.zeros(2)}
    content = network
    for name in reversed(names):
        content = {"beside": beside, name: content}
    found = entries.find_entry(
        pathlib.Path("file.pth"), content, lambda value: isinstance(value, np.ndarray), None
    )
    assert found == tuple(names)
    assert entries.take(content, found) is network
    assert entries.list_others(content, found) == tuple(
        "/".join([*names[:depth], "beside"]) for depth in range(len(names))
    )


# Types and formats.


@pytest.mark.parametrize(
    ("dtype", "name", "back"),
    [
        (torch.float16, "file.pth", "back.pth"),
        (torch.bfloat16, "file.pth", "back.safetensors"),
        (torch.bfloat16, "file.safetensors", "back.pth"),
        (torch.float32, "file.safetensors", "back.safetensors"),
    ],
)
def test_half_precision_is_exact_in_float32_and_comes_back(dtype, name, back, tmp_path):
    content = {
        key: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for key, tensor in create().items()
    }
    found, report = convert(tmp_path, content, name=name)
    kind = str(dtype).removeprefix("torch.")
    said = f"  turned into float32, exactly: 100 tensors of {kind}\n"
    assert (said in report) == bool(found.half) == (dtype != torch.float32)
    read = weight_files.read(tmp_path / name, None).tensors
    for key, tensor in content.items():
        assert np.array_equal(read[key], tensor.double().numpy()), key
    assert_same_bits(export(tmp_path, back), content)


def test_a_file_name_tells_nothing(tmp_path):
    save(tmp_path / "right.safetensors", create())
    (tmp_path / "right.safetensors").rename(tmp_path / "wrong.pth")
    report = importing.import_weights(tmp_path / "wrong.pth", tmp_path / "workdir", TORCHVISION)
    assert "wrong.pth is of the layout torchvision" in report


def test_float16_that_overflowed_is_explained(tmp_path):
    content = {
        key: (1e9 * tensor).half() if key == "layer1.0.conv1.weight" else tensor
        for key, tensor in create().items()
    }
    message = refuse(tmp_path, content)
    assert "layer1.0.conv1.weight (here params/backbone/layer1_0/conv1/kernel): " in message
    assert "float16 ends at 65504, so save it in float32 or bfloat16" in message


def test_what_is_left_out_may_hold_anything(tmp_path):
    content = create() | {"queue": torch.full((2, 2), math.nan)}
    assert "it has queue, which are unknown" in refuse(tmp_path, content)
    convert(tmp_path, content, Choices("torchvision", ignore="queue"))


def test_a_bad_number_that_the_network_does_not_need_is_named_too(tmp_path):
    content = create() | {"fc.bias": torch.full((1000,), math.inf)}
    assert "(fc.bias: 1,000 infinite of 1,000 values, the first at [0])" in refuse(
        tmp_path, content
    )


def list_numbers():
    return {
        key: tensor.numpy()
        for key, tensor in create("advent").items()
        if tensor.is_floating_point()
    }


@given(st.data())
def test_one_bad_number_in_any_tensor_is_found_and_named(data):
    key = data.draw(st.sampled_from(sorted(list_numbers())))
    array = list_numbers()[key].copy()
    values = [math.nan, math.inf, -math.inf, *([-1e-30] if key.endswith("running_var") else [])]
    index = tuple(data.draw(st.integers(0, side - 1)) for side in array.shape)
    array[index] = data.draw(st.sampled_from(values))
    tensors = list_numbers() | {key: array}
    check = functools.partial(soundness.check, pathlib.Path("file.pth"), StateDict(tensors))
    with pytest.raises(UserError) as error:
        check({key: "params/here"}, [])
    where = rf"\({re.escape(key)} \(here params/here\): 1 \w+.* of {array.size:,} value"
    assert re.search(where, str(error.value))
    assert f"the first at {list(index)})" in str(error.value)
    check({}, [key])
    array[index] = 0  # A variance of 0 is legal.
    check({key: "params/here"}, [])


def script(path):
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(path)


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights.pth", b"\x80\x02")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pth", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS, not the"),
        ("x.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "of Git LFS, not the"),
        ("x.pth", b"\n<!DOCTYPE html><html>", "a web page, not the file itself: expected weights"),
        ("x.pth", b"", "is empty: expected weights of PyTorch; copy or download it again."),
        ("x.h5", b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file, as Keras writes: expected"),
        ("x.npy", b"\x93NUMPY\x01\0", "an array of NumPy"),
        ("x.npz", lambda path: np.savez(path, a=np.ones(2)), "an archive of arrays of NumPy"),
        ("x.pt", script, "a TorchScript program: expected weights of PyTorch; save its weights"),
        ("x.onnx", b"\x08\x07\x12\x07pytorch", "a program in ONNX: expected"),
        ("model.ckpt.data-00000-of-00001", b"\0" * 99, "a part of a checkpoint of TensorFlow"),
        ("x.index", b"\0" * 40 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "a checkpoint of TensorFlow"),
        ("x.bin.index.json", b'{"weight_map": {}}', "JSON, such as an index"),
        ("x.pth.tar.gz", b"\x1f\x8b\x08", "an archive (gzip): expected weights of PyTorch; ext"),
        ("x.zip", archive, "a zip archive: expected weights of PyTorch; extract it"),
        ("x.safetensors", b"\x09\0\0\0\0\0\0\0{", "cannot be read (SafetensorError: "),
        ("x.safetensors", safetensors.torch.save({}), "holds no tensors: expected a state dict"),
    ],
)  # fmt: skip
def test_files_of_other_kinds_are_said_to_be_what_they_are(name, content, message, tmp_path):
    path = tmp_path / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    error = read_error(call(COMMAND, f"--input={path}", f"--output={tmp_path / 'workdir'}"))
    assert str(path) in error
    assert message in error


def test_a_sparse_tensor_is_one_sentence(tmp_path):
    content = create() | {"conv1.weight": create()["conv1.weight"].to_sparse()}
    assert "conv1.weight in" in (message := refuse(tmp_path, content))
    assert "that NumPy cannot hold (sparse, quantised or without values)" in message


def test_without_safetensors_the_command_says_what_to_install(tmp_path, monkeypatch):
    save(tmp_path / "file.safetensors", create())
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(UserError, match=r"pip install 'alp_jax\[convert\]', or pip install safe"):
        importing.import_weights(tmp_path / "file.safetensors", tmp_path / "workdir", TORCHVISION)


# The way back.


def test_the_way_back_refuses_bad_numbers(tmp_path):
    convert(tmp_path, create())
    # As a program of the user's may write it.
    found = record.load(tmp_path / "workdir")
    assert found is not None
    spoilt = {k: t.clone() for k, t in create().items()}
    spoilt["bn1.running_var"][1] = -1.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soundness, "check", lambda *_: None)
        (tmp_path / "spoilt").mkdir()
        convert(tmp_path / "spoilt", spoilt)
    with pytest.raises(UserError, match=r"batch_stats/backbone/bn1/var: 1 negative .* at \[1\]"):
        export(tmp_path / "spoilt")
    assert not (tmp_path / "spoilt" / "back.pth").exists()


def test_an_entry_has_no_place_in_safetensors_and_that_is_said(tmp_path):
    convert(tmp_path, {"model": create()})
    output = tmp_path / "back.safetensors"
    report = exporting.export_weights(tmp_path / "workdir", output, AUTO, "latest")
    assert "  left out: the entry model around the tensors" in report
    assert_same_bits(safetensors.torch.load_file(output), create())


def test_records_of_earlier_versions_are_read(tmp_path):
    content = {"state_dict": put("module.", create())}
    found, _ = convert(tmp_path, content)
    strip = "module.".__len__()
    old = {
        "source": found.source, "sha256": found.sha256, "layout": found.layout,
        "wrapper": "state_dict", "prefix": "module.", "keys": [key[strip:] for key in found.keys],
        "reasons": {key[strip:]: reason for key, reason in found.reasons.items()},
    }  # fmt: skip
    workdir = tmp_path / "workdir"
    (workdir / record.FILE_NAME).write_text(json.dumps(old))
    unused = {key[strip:]: array for key, array in found.unused.items()}
    np.savez_compressed(workdir / record.UNUSED_FILE_NAME, **unused)
    back = export(tmp_path)
    assert list(back) == ["state_dict"]
    assert_same_bits(back["state_dict"], content["state_dict"])
    assert list(back["state_dict"]) == list(content["state_dict"])


def test_choices_about_files_are_refused_for_a_workdir(tmp_path):
    (tmp_path / "run").mkdir()
    for flag in ("--entry=teacher", "--prefix=a.", "--ignore=x", "--label_set=a.yaml"):
        flags = (f"--input={tmp_path / 'run'}", f"--output={tmp_path / 'x.pth'}", flag)
        error = read_error(call(COMMAND, *flags))
        assert f"{flag.partition('=')[0]} is " in error
        assert "is a workdir, which knows its classes and tensors: leave it out." in error
