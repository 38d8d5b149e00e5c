"""Describes the devices that JAX uses, for log lines and notebooks."""

import os
import pathlib
import shutil

import jax

_NAMES = {"cpu": "CPU", "gpu": "GPU", "tpu": "TPU"}


def summarise_devices() -> str:
    """Describes JAX's version and devices, and any accelerator that JAX cannot use."""
    devices = jax.local_devices()
    platform = devices[0].platform
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    name = f"{len(devices)} {_NAMES.get(platform, platform)}"
    name += "" if kinds == platform else f" ({kinds})"
    return " ".join([f"JAX {jax.__version__} computes on {name}.", *unused_accelerators()])


def unused_accelerators() -> list[str]:
    """Returns a sentence for each accelerator of the machine, if JAX computes on the CPU."""
    if jax.local_devices()[0].platform != "cpu":
        return []
    found = []
    if shutil.which("nvidia-smi"):
        found.append(("GPU", "jax[cuda12]"))
    if os.environ.get("TPU_ACCELERATOR_TYPE") or pathlib.Path("/dev/accel0").exists():
        found.append(("TPU", "jax[tpu]"))
    return [
        f'There is a {name} that JAX cannot use: pip install -U "{package}", then start again.'
        for name, package in found
    ]
