"""Trains GTA5 -> Cityscapes, DeepLabv2-ResNet101: Tables 2 and 4 of Cicek et al., ACCV 2020.

  python -m data_prep.gta5 --raw_dir=RAW/gta5 --data_dir=datasets --size=720,1280
  python -m data_prep.cityscapes --raw_dir=RAW/cityscapes --data_dir=datasets --size=512,1024
  python -m data_prep.convert_weights --input=WEIGHTS.pth --output=pretrained/deeplab_resnet101
  python -m alp_jax.main --config=configs/gta5_to_cityscapes.py:alp_gi --workdir=runs/gta5_alp_gi

Published mean IoU (%), 19 classes, 500 validation images:

  source_only  37.76   Table 4
  ap_ci        20.62   Table 4
  agp_gi       40.56   Table 4, the authors' run of AdvEnt
  alp_gi       46.98   Table 4, the method
  advent       43.8    Table 2, AdvEnt's own; best of about 60 checkpoints by validation labels
  minent       42.3    Table 2, the same; minent_er 43.1
  adaptsegnet  42.4    Table 2, AdaptSegNet's own

From the paper (section 4.1): image sizes, batch of 1, 150,000 steps, lambda 0.001, learning rates,
patches of 256, SGD and Adam, batch norm that normalises with running statistics and updates them.

Our choice where the paper is silent: all fields marked (AdvEnt), so that momentum, weight decay,
the schedule (towards 0 at step 250,000, which the run does not reach) and the optimizer's repeated
listings (`sgd_preset`) are those of AdaptSegNet's and AdvEnt's code; both domains update running
statistics; one patch per image; batch-norm scale and bias keep their pretrained values. The paper
does not say which checkpoint it reports; ours is the last, and `best` is kept, too.
"""

import ml_collections

from configs import default


def get_config(variant: str = "alp_gi") -> ml_collections.ConfigDict:
    """Creates the configuration of a method."""
    default.check_variant(variant)
    config = default.get_config(variant)
    with config.unlocked():
        config.init_from = "pretrained/deeplab_resnet101"  # Caffe-style DeepLab weights (AdvEnt).
        # Resized during preparation: the same pixels, with a tenth of the decoding work.
        config.data.source = "gta5/all_720x1280"
        config.data.target = "cityscapes/unlabelled_512x1024"
        config.evaluation.dataset = "cityscapes/labelled_512x1024"  # Its labels are 1024x2048.
    return config
