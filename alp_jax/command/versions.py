"""What a number was measured with: versions, commit and processor, for the files that keep it."""

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
    """Names packages, Python, commit and devices, each with its version or description."""
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
    """The commit that this package is checked out at; says so if files differ from it."""
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
