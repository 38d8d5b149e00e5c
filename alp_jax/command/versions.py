"""Versions, commit and devices behind a measured number, to be stored beside it."""

import os
import pathlib
import platform
import subprocess

import flax
import jax
import numpy as np
import optax

import alp_jax


def describe() -> dict[str, str]:
    """Returns name -> version or description of packages, Python, commit, devices and machine."""
    return {
        "alp_jax": alp_jax.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
        "devices": ", ".join(str(device) for device in jax.local_devices()),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
    }


def commit() -> str:
    """Returns the package's git commit, with a note if files differ from it; "unknown" without."""
    folder = pathlib.Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not git("ls-files", "--", __file__):  # Installed inside somebody else's repository.
            return "unknown"
        changed = git("status", "--porcelain", "--untracked-files=no", "--", str(folder))
        return git("rev-parse", "HEAD") + (", with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
