"""Trains on your own data: from a folder of images with labels to a folder without.

  python -m data_prep.image_folder --name=source --images=A/rgb --labels=A/gt --label_map=A/gt.yaml
  python -m data_prep.image_folder --name=target --images=B
  python -m data_prep.convert_weights --input=WEIGHTS.pth --output=pretrained/deeplab_resnet101
  python -m alp_jax.main --config=configs/image_folders.py:alp_gi --workdir=runs/own

Copy this file and change names, sizes (as large as memory allows, in each domain's proportions) and
the number of steps. The target is evaluated without labels: pictures and mean entropy. If some of
its images have labels, prepare those with --split=validation and name that dataset in
`evaluation.dataset`.

The paper's values are for batches of one image at its sizes; the number of steps is our choice.
"""

import ml_collections

from configs import default


def get_config(variant: str = "alp_gi") -> ml_collections.ConfigDict:
    """Creates the configuration of a method."""
    config = default.get_config(variant)
    with config.unlocked():
        config.init_from = "pretrained/deeplab_resnet101"  # Training from scratch takes far longer.
        if not config.rounds.num_rounds:
            config.num_steps = 40_000
        config.data.source = "image_folder/source"
        config.data.target = config.evaluation.dataset = "image_folder/target"
        config.data.source_size = (720, 1280)
        config.data.target_size = (512, 1024)
        config.evaluation.split = "train"
    return config
