"""Reads a configuration: a Python file, its variant, and flags that override fields.

Synopsis:

  CONFIG = define("Help.")                      # the flag --config=FILE:VARIANT
  config = read_config("toy_cities", "alp_gi", ["--config.seed=1"])
  config = override(config, ["--config.seed=1"])
"""

import importlib.util
import inspect
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from alp_jax.command import flag_values, shipped
from alp_jax.errors import UserError, describe, describe_near

_NAME = "config"
_OVERRIDE = re.compile(r"--?(no)?config\.")
_GIVEN = re.compile(r"--?config(=|$)")


def define(help_string: str, values: flags.FlagValues = flags.FLAGS) -> flags.FlagHolder[Any]:
    """Defines --config=FILE:VARIANT, whose fields further flags override."""
    return _define(help_string, values, None)


def read_config(
    path: str, variant: str, overrides: Sequence[str] = ()
) -> ml_collections.ConfigDict:
    """Reads a configuration as the flags --config=PATH:VARIANT and `overrides` would.

    Args:
      path: Python file with get_config(variant), or the name of a configuration of the package.
      variant: argument of get_config.
      overrides: flags "--config.FIELD=VALUE".
    Raises:
      UserError: if the file, the variant, a field or a value is wrong.
    """
    values = flags.FlagValues()
    argv = ["", f"--config={path}:{variant}", *overrides]
    _define("", values, argv)
    parse(values, argv)
    return values.config


def override(
    config: ml_collections.ConfigDict, overrides: Sequence[str]
) -> ml_collections.ConfigDict:
    """Returns a copy of a configuration with the fields that flags override.

    Raises:
      UserError: if a field or a value is wrong.
    """
    values = flags.FlagValues()
    argv = ["", *overrides]

    def copy() -> ml_collections.ConfigDict:
        return ml_collections.ConfigDict(config.to_dict())

    def apply() -> list[str]:
        config_flags.DEFINE_config_dict(_NAME, copy(), flag_values=values, sys_argv=argv)
        return values(argv)

    _report(values, argv, apply, copy)
    return values.config


def parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Parses flags; returns the other arguments, the program first.

    Raises:
      UserError: if a flag or the configuration is wrong.
    """

    def load() -> Any:
        return values[_NAME].parser.parse(_get_given(argv))

    return _report(values, argv, lambda: values(argv), load)


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command into other arguments, and overrides of fields without a --config.

    With a --config, all arguments are among the former.
    """
    if any(_GIVEN.match(argument) for argument in argv):
        return list(argv), []
    others: list[str] = []
    overrides: list[str] = []
    taker = others
    for argument in argv:
        if argument.startswith("-"):
            taker = overrides if _OVERRIDE.match(argument) else others
        taker.append(argument)
        if "=" in argument or not argument.startswith("-"):
            taker = others
    return others, overrides


def _define(help_string: str, values: flags.FlagValues, argv: list[str] | None) -> Any:
    holder = config_flags.DEFINE_config_file(
        _NAME, None, help_string, flag_values=values, sys_argv=argv
    )
    values[_NAME].parser = _FileParser()
    return holder


class _Refused(Exception):
    """Carries a UserError through absl, which turns every ValueError into one of its own."""

    def __init__(self, error: UserError):
        super().__init__(str(error))
        self.error = error


class _FileParser(flags.ArgumentParser):
    """Parses FILE:VARIANT to what get_config(VARIANT) of that file returns."""

    def parse(self, argument: str) -> ml_collections.ConfigDict:
        """Reads the file."""
        path, *variant = argument.split(":", 1)
        try:
            return _load(path, variant).lock()
        except UserError as error:
            raise _Refused(error) from error

    def flag_type(self) -> str:
        """Returns the type in words."""
        return "config object"


def _load(path: str, variant: Sequence[str]) -> ml_collections.ConfigDict:
    """Imports a file and calls its get_config with the variant, if there is one."""
    file = shipped.find(path).absolute()  # As Python names it in tracebacks.
    shipped.make_importable()
    name = f"{_NAME}_config"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"The configuration {path} is no Python file: expected a name ending .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        config = _get_function(path, module, variant)(*variant)
    except UserError:
        raise
    except Exception as error:  # The file is the user's own code.
        raise UserError(_describe_broken_file(path, file, error)) from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(
            f"get_config of {path} returns {config!r:.50}: expected a configuration, such as "
            "configs.default.get_config(variant) with some fields changed."
        )
    return config


def _get_function(path: str, module: ModuleType, variant: Sequence[str]) -> Callable[..., Any]:
    """Returns get_config of a file, which must accept the variant, or none where none is given."""
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise UserError(
            f"The configuration {path} has no function get_config: expected get_config(variant) "
            "there, which returns a configuration."
        )
    try:
        inspect.signature(get_config).bind(*variant)
    except TypeError:
        if variant:
            raise UserError(
                f"--config={path}:{variant[0]} names a variant, and get_config of {path} takes "
                f"none: give --config={path}, or write get_config(variant) there."
            ) from None
        raise UserError(
            f"--config={path} names no variant, which get_config of {path} needs: give "
            f"--config={path}:VARIANT."
        ) from None
    return get_config


def _describe_broken_file(path: str, file: pathlib.Path, error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if f.filename == str(file)]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    where = f", line {lines[-1]}" if lines else ""
    return f"The configuration {path} cannot be read{where} ({describe(error)}): mend that file."


def _report(
    values: flags.FlagValues,
    argv: Sequence[str],
    apply: Callable[[], list[str]],
    load: Callable[[], Any],
) -> list[str]:
    """Parses flags by `apply`; every error becomes a UserError.

    Args:
      values: the flags.
      argv: the command.
      apply: parses it.
      load: reads the configuration without overrides, to describe an unknown field.
    """
    try:
        return apply()
    except _Refused as refused:
        raise refused.error from refused
    except flags.Error as error:
        wrong = _describe_order(argv) or flag_values.describe_wrong(values, argv)
        raise UserError(wrong or str(error)) from error
    except (AttributeError, KeyError, TypeError) as error:  # A field, or a block, that is not.
        overrides = [_OVERRIDE.sub("", a) for a in argv if _OVERRIDE.match(a)]
        raise UserError(_describe_unknown_field(load(), overrides, error)) from error


def _describe_order(argv: Sequence[str]) -> str | None:
    """Describes an override that stands before --config; None without."""
    places = [number for number, argument in enumerate(argv) if _GIVEN.match(argument)]
    before = [argument for argument in argv[: min(places, default=0)] if _OVERRIDE.match(argument)]
    return f"{before[0]} stands before --config: give --config first." if before else None


def _get_given(argv: Sequence[str]) -> str:
    """Returns the last value of --config in a command."""
    found = ""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if _GIVEN.match(argument):
            _, equals, value = argument.partition("=")
            found = value if equals else following
    return found


def _describe_unknown_field(config: Any, overrides: list[str], error: Exception) -> str:
    for override_ in overrides:
        path = override_.split("=")[0].split(".")
        node = config
        for depth, key in enumerate(path):
            if not isinstance(node, ml_collections.ConfigDict):
                field = ".".join([_NAME, *path[:depth]])
                return f"--config.{override_} is of no field: {field} is a value, not a block."
            if key not in node:
                prefix = ".".join([_NAME, *path[:depth]])
                return (
                    f"Unknown field {prefix}.{key}{describe_near(key, node)}: {prefix} has "
                    f"{', '.join(sorted(node))}."
                )
            node = node[key]
    return f"The configuration cannot be read: {describe(error)}."
