"""What is said of devices, with and without an accelerator that JAX cannot use."""

import jax
import pytest

from alp_jax.devices import summary
from alp_jax.report import notebook


def pretend(monkeypatch, *, gpu: bool, tpu: bool) -> None:
    monkeypatch.setattr(summary.shutil, "which", lambda name: f"/usr/bin/{name}" if gpu else None)
    if tpu:
        monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    else:
        monkeypatch.delenv("TPU_ACCELERATOR_TYPE", raising=False)


def test_a_cpu_is_named_and_a_notebook_says_what_it_is_enough_for(monkeypatch):
    pretend(monkeypatch, gpu=False, tpu=False)
    assert (
        summary.summarise_devices()
        == f"JAX {jax.__version__} computes on {len(jax.local_devices())} CPU."
    )
    assert notebook.describe_devices().startswith(summary.summarise_devices())
    assert "choose Runtime, Change runtime type" in notebook.describe_devices()


@pytest.mark.parametrize(
    ("gpu", "tpu", "package"), [(True, False, "jax[cuda12]"), (False, True, "jax[tpu]")]
)
def test_an_accelerator_that_is_not_used_is_told(monkeypatch, gpu, tpu, package):
    pretend(monkeypatch, gpu=gpu, tpu=tpu)
    for said in (summary.summarise_devices(), notebook.describe_devices()):
        assert f'pip install -U "{package}"' in said
    assert "Change runtime type" not in notebook.describe_devices()
