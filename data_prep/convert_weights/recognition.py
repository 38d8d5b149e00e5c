"""Understanding a file from the keys and shapes of its tensors.

Synopsis:

  file = PublishedFile(path, shapes)
  layout_name = file.recognise(prefix)
  config = file.create_config(LAYOUTS[layout_name])
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

import jax
import ml_collections

from alp_jax.data.labels import load_label_set
from alp_jax.errors import UserError
from alp_jax.settings import upgrade
from alp_jax.workdir.settings import build_settings
from configs import default
from data_prep.common.text import shorten
from data_prep.convert_weights import trees
from data_prep.convert_weights.layouts import COUNTER_REASON, LAYOUTS, Layout, counter_of

_STAGES = (1, 2, 3, 4)
_HEADS = ("layer5", "layer6")
# Number of classes -> label set, where a file is not said to be of another.
_LABEL_SETS = {count: upgrade.upgrade_label_set(count) for count in (19, 16, 13)}


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """The keys and shapes of a file, to be understood.

    Attributes:
      path: of the file.
      shapes: of its tensors, by key without prefix.
      label_set: of its classifiers, as `config.data.label_set`; None: Cityscapes' with as many
        classes.
    """

    path: pathlib.Path
    shapes: Mapping[str, tuple[int, ...]]
    label_set: str | None = None

    def recognise(self, prefix: str) -> str:
        """Finds the one layout that the file can be.

        Raises:
          UserError: if there is none, or more than one.
        """
        fits = [name for name, layout in LAYOUTS.items() if self._fits(layout, prefix)]
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise UserError(
                f"{self.path} can be of the layouts {' and '.join(fits)}, which name their tensors "
                "alike and mean different networks: say whose it is with --layout."
            )
        heads = [f"{m} {self.shapes[_branch(m)]}" for m in _HEADS if _branch(m) in self.shapes]
        raise UserError(
            f"{self.path} is of no layout that is known (classifiers: {', '.join(heads) or 'none'}"
            f"): expected one of {', '.join(LAYOUTS)}, with {self._expected_classes()}; give the "
            "--layout that it should be to learn what differs, or the --label_set of its classes."
        )

    def _find_label_set(self, num_classes: int) -> str | None:
        """Names the label set of a classifier; None where none has so many classes."""
        if self.label_set is None:
            return _LABEL_SETS.get(num_classes)
        fits = load_label_set(self.label_set).num_classes == num_classes
        return self.label_set if fits else None

    def _expected_classes(self) -> str:
        if self.label_set is None:
            return f"{', '.join(map(str, _LABEL_SETS))} classes, those of Cityscapes"
        return f"the {load_label_set(self.label_set).num_classes} classes of {self.label_set}"

    def _fits(self, layout: Layout, prefix: str) -> bool:
        """Whether the classifiers in the file are those of the layout."""
        if prefix.removeprefix("module.") not in layout.prefixes:
            return False
        widths = [4 * self._size(f"layer{stage}.0.conv1.weight") for stage in _STAGES]
        found = {}
        for module in _HEADS:
            shape = self.shapes.get(_branch(module))
            if shape is None or layout.reason_unused(_branch(module), shape):
                continue
            found[module] = shape[:2]
        modules = layout.modules()
        return found.keys() == modules.keys() and all(
            self._find_label_set(shape[0]) and shape[1:] == (widths[modules[module]],)
            for module, shape in found.items()
        )

    def create_config(self, layout: Layout) -> ml_collections.ConfigDict:
        """Creates a complete configuration with the network that the tensors are of.

        Raises:
          UserError: if a tensor that tells a size is missing or has no such size, or the number of
            classes is that of no label set.
        """
        run_config = default.get_config("agp_gi")
        model = run_config.model
        model.update(layout.model_fields())
        model.stem_widths = (self._size("conv1.weight"),)
        model.widths = tuple(self._size(f"layer{stage}.0.conv1.weight") for stage in _STAGES)
        blocks = {re.match(r"layer[1-4]\.\d+\.", key) for key in self.shapes}
        names = {block[0] for block in blocks if block}
        model.depths = tuple(
            sum(name.startswith(f"layer{stage}.") for name in names) for stage in _STAGES
        )
        if layout.heads:
            key = _branch(layout.heads["classifier"][0])
            label_set = self._find_label_set(self._size(key))
            if label_set is None:
                raise UserError(
                    f"{key} in {self.path} has {self._size(key)} classes: expected "
                    f"{self._expected_classes()}; name its own with --label_set=my_classes.yaml."
                )
            run_config.data.label_set = label_set
        elif self.label_set is not None:
            raise UserError(
                f"--label_set is {self.label_set}, but {self.path} has no classifier: expected "
                "none for weights of a backbone; leave it out."
            )
        build_settings(run_config)
        return run_config

    def account_for(self, layout_name: str, expected: trees.PyTree) -> dict[str, str]:
        """Finds a place for every tensor.

        Args:
          layout_name: of the file.
          expected: from `trees.create_shapes`.
        Returns:
          key of every tensor that the network has no use for -> what it is.
        Raises:
          UserError: naming tensors that are missing, unknown or of another shape.
        """
        layout = LAYOUTS[layout_name]
        used = {
            layout.key_of(path): trees.published_shape(leaf.shape)
            for path, leaf in jax.tree_util.tree_leaves_with_path(expected)
        }
        counters = {counter_of(key) for key in used}
        reasons, unknown = {}, []
        for key in self.shapes.keys() - used.keys():
            reason = layout.reason_unused(key, self.shapes[key])
            if key in counters:
                reason = COUNTER_REASON
            if reason is None:
                unknown.append(key)
            else:
                reasons[key] = reason
        missing = used.keys() - self.shapes.keys()
        faults = [f"it lacks {_some(missing)}"] if missing else []
        faults += [f"it has {_some(unknown)}, which are unknown"] if unknown else []
        if faults:
            raise UserError(
                f"{self.path} is not of the layout {layout_name}: {' and '.join(faults)}; give the "
                "--layout that it is of, or mend the file."
            )
        for key, shape in used.items():
            if self.shapes[key] != shape:
                self._refuse_shape(key, str(shape), layout_name)
        return {key: reasons[key] for key in self.shapes if key in reasons}

    def _size(self, key: str) -> int:
        """Outputs of a convolution."""
        if key not in self.shapes:
            raise UserError(
                f"{self.path} lacks {key}, and holds {_some(self.shapes)}: expected the state dict "
                "of a ResNet with bottlenecks, or of DeepLabv2 with one; give such a file, or the "
                "--layout that it is of."
            )
        if len(self.shapes[key]) != 4 or 0 in self.shapes[key]:
            self._refuse_shape(key, "that of a convolution")
        return self.shapes[key][0]

    def _refuse_shape(self, key: str, expected: str, layout_name: str | None = None) -> NoReturn:
        layout = f" in the layout {layout_name}" if layout_name else ""
        raise UserError(
            f"{key} in {self.path} has shape {self.shapes[key]}: expected {expected}{layout}; "
            "give the --layout that it is of, or mend the file."
        )


def _branch(module: str) -> str:
    return f"{module}.conv2d_list.0.weight"


def _some(keys: Iterable[str]) -> str:
    """Names a few keys."""
    return shorten(sorted(keys), 6) or "nothing"
