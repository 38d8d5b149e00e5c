"""Finds configuration files: by path, or by name among those that come with the package.

Synopsis:

  find("toy_cities")               # .../configs/toy_cities.py, wherever the package is installed
  find("configs/toy_cities.py")    # the same path; UserError if there is no such file
"""

import importlib.util
import pathlib
import sys

import alp_jax
from alp_jax.errors import UserError, describe_near

PACKAGE = "configs"
FOLDER = pathlib.Path(alp_jax.__file__).resolve().parents[1] / PACKAGE


def names() -> list[str]:
    """Lists the names of the configurations that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def find(given: str) -> pathlib.Path:
    """Finds a configuration file.

    Args:
      given: path of a file, or a name of `names()`.
    Raises:
      UserError: if there is no such file, or a name may also mean a file here.
    """
    path = pathlib.Path(given).expanduser()
    if given and path.is_file():
        return path
    if given not in names():
        raise UserError(_describe_missing(given, path))
    found, here = FOLDER / f"{given}.py", pathlib.Path(f"{given}.py")
    if here.is_file() and not here.samefile(found):
        raise UserError(
            f"--config={given} may mean {here} here, or the configuration of that name that comes "
            f"with alp_jax: give --config={here} for the first, or --config={found} for the second."
        )
    return found


def _describe_missing(given: str, path: pathlib.Path) -> str:
    expected = (
        "expected a Python file such as own.py or own.py:VARIANT, or a configuration that comes "
        f"with alp_jax: {', '.join(names())}"
    )
    if not given:
        return f"--config is empty: {expected}."
    if path.is_dir():
        return f"The configuration {given} cannot be read (it is a folder): {expected}."
    here = path.with_name(f"{path.name}.py")
    if here.is_file():
        return f"There is no configuration {given} (did you mean {here}?): {expected}."
    return f"There is no configuration {given}{describe_near(path.stem, names())}: {expected}."


def make_importable() -> None:
    """Lets `import configs` find the package that comes with this one, also where another is.

    A folder `configs` in the working directory, which Python would find first, comes after it:
    modules that only that folder has can be imported as well.
    """
    module = sys.modules.get(PACKAGE)
    if module is None:
        spec = importlib.util.spec_from_file_location(
            PACKAGE, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACKAGE] = module
        spec.loader.exec_module(module)
    here = pathlib.Path(PACKAGE).resolve()
    others = [*getattr(module, "__path__", []), *([str(here)] if here.is_dir() else [])]
    module.__path__ = [str(FOLDER), *(p for p in dict.fromkeys(others) if p != str(FOLDER))]
