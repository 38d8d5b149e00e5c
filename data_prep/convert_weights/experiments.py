"""Chooses the configuration that converted weights are evaluated and trained with."""

import dataclasses
import types

import ml_collections

from configs import gta5_to_cityscapes, image_folders, synthia_to_cityscapes

# Label set -> configuration whose datasets have these classes; any other is a user's own.
_OF_LABEL_SET = {
    None: gta5_to_cityscapes,
    "cityscapes_19": gta5_to_cityscapes,
    "cityscapes_16": synthia_to_cityscapes,
    "cityscapes_13": synthia_to_cityscapes,
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A configuration file of ours."""

    module: types.ModuleType

    def get_config(self, method: str) -> ml_collections.ConfigDict:
        """Creates the configuration of a method."""
        config: ml_collections.ConfigDict = self.module.get_config(method)
        return config

    @property
    def name(self) -> str:
        """Name of the file, without the ending."""
        return self.module.__name__.rpartition(".")[2]

    @property
    def is_of_users(self) -> bool:
        """Whether it is a template for a user's own datasets, whose names are not known."""
        return self.module is image_folders


# The paper's first experiment, whose methods have all the heads that published files have.
PAPER = Experiment(gta5_to_cityscapes)


def find(label_set: str | None) -> Experiment:
    """Finds the experiment for weights of a label set; None: weights of a backbone."""
    return Experiment(_OF_LABEL_SET.get(label_set, image_folders))
