"""Recognises a file by the keys and shapes of its tensors.

Synopsis:

  file = PublishedFile(path, shapes)
  layout_name = file.recognise()
  model = file.read_model(LAYOUTS[layout_name])
"""

import contextlib
import dataclasses
import operator
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

import jax
import ml_collections

from alp_jax.data.labels import load_label_set
from alp_jax.errors import UserError, shorten
from alp_jax.models.parts import Backbone
from alp_jax.models.published import Layout
from alp_jax.models.segmenter import MAIN
from alp_jax.models.settings import ModelSettings
from alp_jax.objective.settings import term
from alp_jax.settings import upgrade
from alp_jax.settings.schema import build, to_config
from alp_jax.workdir.settings import build_settings
from data_prep.convert_weights import experiments, trees
from data_prep.convert_weights.layouts import (
    COUNTER_REASON,
    LAYOUTS,
    counter_of,
    keys_of,
    list_logits_keys,
    load_backbone,
    load_decoder,
)

# Number of classes -> label set of a file, unless another one is given.
_LABEL_SETS = {count: upgrade.upgrade_label_set(count) for count in (19, 16, 13)}


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """Keys and shapes of a file.

    Attributes:
      path: path of the file.
      shapes: key without prefix -> shape of the tensor.
      label_set: label set of the classifiers, as `config.data.label_set`; None: the one of
        Cityscapes with as many classes.
      prefix: prefix of the keys in the file.
    """

    path: pathlib.Path
    shapes: Mapping[str, tuple[int, ...]]
    label_set: str | None = None
    prefix: str = ""

    def holds_network(self, layouts: Iterable[Layout]) -> bool:
        """Returns whether there is a backbone of one of the layouts."""
        for layout in layouts:
            with contextlib.suppress(UserError):
                self._read_backbone(layout)
                return True
        return False

    def recognise(self) -> str:
        """Finds the only layout that fits the file.

        Raises:
          UserError: if no layout fits, or more than one.
        """
        fits, faults = [], []
        for name, layout in LAYOUTS.items():
            try:
                fits += [name] if self._fits(layout) else []
            except UserError as error:  # The file lacks a tensor of the layout's backbone.
                shared = self._has_marks(layout), self._count_named(layout)
                faults.append((shared, error))
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise UserError(
                f"{self.path} can be of the layouts {' and '.join(fits)}, which name their tensors "
                f"alike and mean different networks: say whose it is with --layout={fits[0]} or "
                f"--layout={' or --layout='.join(fits[1:])}."
            )
        if len(faults) == len(LAYOUTS):
            # The layout whose marks the file has, or most modules, says best what is missing.
            raise max(faults, key=operator.itemgetter(0))[1]
        for layout in LAYOUTS.values():
            if layout.heads and self._fits(layout, any_classes=True):
                self.find_label_set(layout)  # Fails, and says what is expected.
        found = list_logits_keys().items()
        heads = [f"{module} {self.shapes[key]}" for module, key in found if key in self.shapes]
        raise UserError(
            f"{self.path} is of no layout that is known (classifiers: {', '.join(heads) or 'none'}"
            f"): expected one of {', '.join(LAYOUTS)}, with {self._expected_classes()}; give the "
            "--layout that it should be to learn what differs, or the --label_set of its classes."
        )

    def _count_named(self, layout: Layout) -> int:
        """Counts the keys that begin with a module of the layout's backbone."""
        modules = load_backbone(layout.kind).published_modules
        return sum(key.partition(".")[0] in modules for key in self.shapes)

    def _find_label_set(self, num_classes: int) -> str | None:
        """Finds the label set of a classifier; returns None if none has as many classes."""
        if self.label_set is None:
            return _LABEL_SETS.get(num_classes)
        fits = load_label_set(self.label_set).num_classes == num_classes
        return self.label_set if fits else None

    def _expected_classes(self) -> str:
        if self.label_set is None:
            return f"{', '.join(map(str, _LABEL_SETS))} classes, those of Cityscapes"
        return f"the {load_label_set(self.label_set).num_classes} classes of {self.label_set}"

    def _fits(self, layout: Layout, *, any_classes: bool = False) -> bool:
        """Returns whether the file has the backbone and the classifiers of the layout."""
        channels = self._read_backbone(layout).stage_channels
        typical = {prefix for other in LAYOUTS.values() for prefix in other.prefixes if prefix}
        if any(self.prefix.endswith(prefix) for prefix in typical - set(layout.prefixes)):
            return False
        found = {}
        for module, key in list_logits_keys().items():
            shape = self.shapes.get(key)
            if shape is not None and not layout.find_reason_unused(key, shape):
                found[module] = shape
        stages = {module: head.stage for head in layout.heads.values() for module in head.modules}
        numbers = {shape[0] for shape in found.values()}
        is_known = len(numbers) == 1 if any_classes else all(map(self._find_label_set, numbers))
        return (
            found.keys() == stages.keys()
            and is_known
            and all(shape[1:2] == (channels[stages[module]],) for module, shape in found.items())
        )

    def _read_backbone(self, layout: Layout) -> Backbone:
        """Reads the settings of the backbone from the shapes.

        Raises:
          UserError: if a required tensor is missing or has a wrong shape.
        """
        for key in layout.has:
            self._read_shape(key)
        for key in layout.lacks:
            if key in self.shapes:
                raise UserError(
                    f"{self.path} has {self.prefix}{key}, which no file of that layout has: give "
                    "the --layout that it is of."
                )
        cls = load_backbone(layout.kind)

        def size_of(key: str) -> int:
            return sum(map(self._read_size, layout.keys_in_file(key)))

        keys = layout.keys_of_file(self.shapes) if layout.names else self.shapes
        return cls(**{**layout.fields, **cls.read_fields(size_of, keys)})

    def _has_marks(self, layout: Layout) -> bool:
        """Returns whether the file has, and lacks, the keys that tell the layout from others."""
        lacks = not any(key in self.shapes for key in layout.lacks)
        return bool(layout.has) and lacks and all(key in self.shapes for key in layout.has)

    def read_model(self, layout: Layout) -> ModelSettings:
        """Reads the settings of the file's network from the shapes.

        Raises:
          UserError: if a required tensor is missing or has a wrong shape.
        """
        backbone = {"kind": layout.kind, **to_config(self._read_backbone(layout)).to_dict()}
        fields = {**to_config(ModelSettings()).to_dict(), **layout.model_fields()}
        # A decoder has more fields than a layout decides.
        heads: Mapping[str, Mapping[str, object]] = {
            name: {**to_config(load_decoder(head.kind)()).to_dict(), **fields["heads"][name]}
            for name, head in layout.heads.items()
        } or fields["heads"]
        fields |= {"backbone": backbone, "heads": heads}
        return build(ModelSettings, fields, name="config.model")

    def find_label_set(self, layout: Layout) -> str:
        """Finds the label set of the file, for a layout with classifiers.

        Raises:
          UserError: if no label set has as many classes.
        """
        head = layout.heads[MAIN]
        key = load_decoder(head.kind).published_logits_key(head.modules[0])
        num_classes = self._read_size(key)
        label_set = self._find_label_set(num_classes)
        if label_set is None:
            modules = "|".join(sorted({m for each in layout.heads.values() for m in each.modules}))
            raise UserError(
                f"{self.prefix}{key} in {self.path} has {num_classes} classes: expected "
                f"{self._expected_classes()}; name its own with --label_set=my_classes.yaml, or "
                f"keep the backbone alone with --ignore='{re.escape(self.prefix)}({modules})"
                r"\..*'."
            )
        return label_set

    def create_config(self, layout: Layout) -> ml_collections.ConfigDict:
        """Creates a complete configuration with the file's network.

        Raises:
          UserError: as `read_model` and `find_label_set`, or if a label set is given for weights
            of a backbone.
        """
        label_set = self.find_label_set(layout) if layout.heads else None
        run_config = experiments.find(label_set).get_config("agp_gi")
        with run_config.unlocked():
            run_config.init_from = ""
            run_config.model = to_config(self.read_model(layout))
            if label_set is not None:
                run_config.data.label_set = label_set
            for head in layout.heads.keys() - {MAIN}:
                name = f"cross_entropy_{head}"
                run_config.terms[name] = term("cross_entropy", head=head, weight=0.1)
        if not layout.heads and self.label_set is not None:
            raise UserError(
                f"--label_set is {self.label_set}, but {self.path} has no classifier: expected "
                "none for weights of a backbone; leave it out."
            )
        build_settings(run_config)
        return run_config

    def account_for(
        self, layout_name: str, model: ModelSettings, expected: trees.PyTree
    ) -> dict[str, str]:
        """Matches every tensor to the network, or to a reason why the network does not need it.

        Args:
          layout_name: name of the file's layout.
          model: settings from `read_model`.
          expected: shapes from `trees.create_shapes`.
        Returns:
          key of every tensor that the network does not need -> its description.
        Raises:
          UserError: if tensors are missing, unknown or of another shape; the message names them.
        """
        layout = LAYOUTS[layout_name]
        used: dict[str, tuple[int, ...]] = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
            keys = keys_of(layout, model, path)
            used |= dict.fromkeys(keys, trees.published_shape(path, leaf.shape, len(keys)))
        counters = {counter_of(key) for key in used}
        reasons, unknown = {}, []
        for key in self.shapes.keys() - used.keys():
            reason = layout.find_reason_unused(key, self.shapes[key])
            if key in counters:
                reason = COUNTER_REASON
            if reason is None:
                unknown.append(key)
            else:
                reasons[key] = reason
        missing = used.keys() - self.shapes.keys()
        faults = [f"it lacks {self._some(missing)}"] if missing else []
        faults += [f"it has {self._some(unknown)}, which are unknown"] if unknown else []
        if faults:
            remedy = "mend the file"
            if unknown and not missing:
                pattern = re.escape(self.prefix + min(unknown))
                remedy = f"leave them out with --ignore=REGEX, such as --ignore='{pattern}'"
            raise UserError(
                f"{self.path} is not of the layout {layout_name}: {' and '.join(faults)}; give the "
                f"--layout that it is of, or {remedy}."
            )
        for key, shape in used.items():
            if self.shapes[key] != shape:
                self._refuse_shape(key, str(shape), layout_name)
        return {key: reasons[key] for key in self.shapes if key in reasons}

    def _read_size(self, key: str) -> int:
        """Reads the number of outputs of a convolution or linear layer."""
        shape = self._read_shape(key)
        if len(shape) not in (2, 4) or 0 in shape:
            self._refuse_shape(key, "that of a convolution or linear layer")
        return shape[0]

    def _read_shape(self, key: str) -> tuple[int, ...]:
        if key not in self.shapes:
            raise UserError(
                f"{self.path} lacks {key}, and holds {self._some(self.shapes)}: expected the state "
                f"dict of a network of one of the layouts {', '.join(LAYOUTS)}, behind any prefix; "
                "give such a file."
            )
        return self.shapes[key]

    def _some(self, keys: Iterable[str]) -> str:
        """Lists a few of the keys, as they are in the file, as text."""
        return shorten(sorted(self.prefix + key for key in keys), 6) or "nothing"

    def _refuse_shape(self, key: str, expected: str, layout_name: str | None = None) -> NoReturn:
        layout = f" in the layout {layout_name}" if layout_name else ""
        raise UserError(
            f"{self.prefix}{key} in {self.path} has shape {self.shapes[key]}: expected "
            f"{expected}{layout}; give the --layout that it is of, or mend the file."
        )
