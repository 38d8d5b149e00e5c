"""Runs the command line of raw datasets.

Synopsis, at the end of a dataset's module:

  COMMAND = cli.Command(builder=Gta5, layouts=(ALL, PUBLISHED_SPLIT), default=("all",))

  if __name__ == "__main__":
      cli.run("data_prep.gta5")
"""

import dataclasses
import difflib
import importlib
import inspect
import sys
from collections.abc import Sequence
from typing import NoReturn

from absl import flags

from alp_jax.data import opening
from alp_jax.errors import UserError
from data_prep.common import command
from data_prep.raw.builder import RawBuilder
from data_prep.raw.check import check
from data_prep.raw.layout import Layout
from data_prep.raw.prepare import prepare

_MAX_SIZE = 16_384
_MAX_STORED_PIXELS = 1 << 27  # That OpenCV decodes, as alp_jax.command.cli sets it.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """The command of one dataset.

    Attributes:
        builder: builder of the dataset.
        layouts: the configurations that --configs can name.
        default: names of the configurations that are prepared without --configs.
    """

    builder: type[RawBuilder]
    layouts: tuple[Layout, ...] = ()
    default: tuple[str, ...] = ()

    def main(self, argv: Sequence[str]) -> int:
        """Runs the command.

        Returns:
            The exit status: 0; 1 if --check finds something wrong; 2 after wrong input; 130 when
            interrupted.
        """
        return command.guard(self._run, argv)

    def define_flags(self, values: flags.FlagValues) -> None:
        """Defines the flags that differ between datasets."""
        define_raw_dir(values)
        names = ", ".join(layout.name for layout in self.layouts)
        flags.DEFINE_list(
            "configs", None,
            f"Configurations to prepare, of: {names}. Default: {', '.join(self.default)}.",
            flag_values=values,
        )  # fmt: skip

    def choose(self, values: flags.FlagValues) -> tuple[str, list[Layout]]:
        """Returns the raw folder and the configurations that the flags select.

        Raises:
            UserError: if a flag is missing or has a wrong value.
        """
        layouts = {layout.name: layout for layout in self.layouts}
        for name in values.configs or ():
            if name not in layouts:
                close = difflib.get_close_matches(name, layouts, n=1)
                hint = f"did you mean {close[0]}? " if close else ""
                raise UserError(
                    f"--configs has {name!r}, which {self.builder.name} has not: {hint}"
                    f"It must be of {', '.join(layouts)}."
                )
        names = values.configs or self.default
        return require(values, "raw_dir"), [layouts[name] for name in dict.fromkeys(names)]

    def _run(self, argv: Sequence[str]) -> int:
        values = command.define_flags("Worker processes; the result does not depend on them.")
        _define_flags(values)
        self.define_flags(values)
        command.parse(values, argv)
        if values.help:
            print(f"{inspect.getdoc(self.builder)}\n\n{values.get_help()}")
            return 0
        with opening.limiting_pixels(_parse_limit(values)):
            return self._prepare(values)

    def _prepare(self, values: flags.FlagValues) -> int:
        size = _parse_size(values.size)
        raw_dir, layouts = self.choose(values)
        configs = [self.builder.config_for(layout, size) for layout in layouts]
        may_leave_out = "configs" in values and values.configs is None
        if values.check:
            return check(
                self.builder,
                raw_dir,
                configs,
                may_leave_out=may_leave_out,
                workers=values.workers,
            )
        prepare(
            self.builder,
            raw_dir,
            values.data_dir,
            configs,
            may_leave_out=may_leave_out,
            skip_bad=values.skip_bad,
            replace=values.replace,
            options=_list_options(values),
            workers=values.workers,
        )
        return 0


def run(module: str) -> NoReturn:
    """Runs the COMMAND of a dataset's module and exits.

    The module is imported under its own name, because TFDS stores the name, and the module that
    runs is called __main__.
    """
    sys.exit(importlib.import_module(module).COMMAND.main(sys.argv))


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "size", None, "HEIGHT,WIDTH in pixels that images and training labels are resized to, as "
        "training would; labels of other splits keep their size. Default: no resizing.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "check", False, "Only read all files and list their faults.", flag_values=values
    )
    flags.DEFINE_float(
        "max_megapixels", None, "The largest image that is read, in millions of pixels; 89 when "
        "not given, since a small file can unpack to any size.",
        lower_bound=0, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "skip_bad", False, "Leave out pairs with a fault, and list them.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "replace", False, "Write datasets anew that are there; the old one stays until the new one "
        "is whole.",
        flag_values=values,
    )  # fmt: skip


# Flags that change no record, and flags whose content is compared, not their text.
_NOT_OPTIONS = frozenset(
    [
        *("data_dir", "workers", "help", "check", "replace", "skip_bad", "raw_dir", "images"),
        *("labels", "label_map", "name", "configs", "split", "size"),
    ]
)


def _list_options(values: flags.FlagValues) -> dict[str, str]:
    """Returns flag -> value of the flags that change the records and are not at their default."""
    return {
        name: str(values[name].value)
        for name in values
        if name not in _NOT_OPTIONS and values[name].value != values[name].default
    }


def define_raw_dir(values: flags.FlagValues) -> None:
    """Defines the flag of the raw folder."""
    flags.DEFINE_string(
        "raw_dir", None, "Folder of the raw dataset, extracted or as zip files.", flag_values=values
    )


def require(values: flags.FlagValues, name: str) -> str:
    """Returns the value of a required flag.

    Raises:
        UserError: if the flag was not given.
    """
    value = getattr(values, name)
    if not value:
        raise UserError(f"--{name} is missing: write --{name}=... ({values[name].help})")
    return value


def _parse_limit(values: flags.FlagValues) -> int | None:
    """Returns how many pixels an image may have; None: as many as without the flag."""
    if values.max_megapixels is None:
        return None
    limit = opening.count_pixels(values.max_megapixels)
    if limit > _MAX_STORED_PIXELS and not values.size:
        raise UserError(
            f"--max_megapixels is {values.max_megapixels:g}, but training reads images of at most "
            f"{_MAX_STORED_PIXELS / 1e6:.0f} megapixels: store smaller ones with "
            "--size=HEIGHT,WIDTH."
        )
    return limit


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        height, width = (int(part) for part in text.split(","))
    except ValueError:
        height = width = 0
    if not (1 <= height <= _MAX_SIZE and 1 <= width <= _MAX_SIZE):
        raise UserError(f"--size is {text!r}: expected HEIGHT,WIDTH in pixels, such as 720,1280.")
    return height, width
