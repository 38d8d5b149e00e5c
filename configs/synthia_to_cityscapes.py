"""Trains SYNTHIA -> Cityscapes, DeepLabv2-ResNet101: Tables 1 and 3 of Cicek et al., ACCV 2020.

  python -m data_prep.synthia_rand_cityscapes --raw_dir=RAW/synthia --size=760,1280
  python -m data_prep.cityscapes --raw_dir=RAW/cityscapes --data_dir=datasets --size=512,1024
  python -m data_prep.convert_weights --input=WEIGHTS.pth --output=pretrained/deeplab_resnet101
  python -m alp_jax.main --config=configs/synthia_to_cityscapes.py:alp_gi --workdir=runs/synthia_alp

Published mean IoU (%) over 16 classes, and over 13 (without wall, fence and pole), 500 validation
images:

  source_only  31.95   36.86   Table 3
  ap_ci        -       20.04   Table 3
  agp_gi       40.31   47.30   Table 3, the authors' run of AdvEnt
  alp_gi       44.84   51.99   Table 3, the method
  advent       40.8    47.6    Table 1, AdvEnt's own; best checkpoint by validation labels
  minent       38.1    44.2    Table 1, the same
  adaptsegnet  -       46.7    Table 1, AdaptSegNet's own

Same settings as gta5_to_cityscapes.py, except for the image size and the classes. `advent` is the
configuration for SYNTHIA by AdvEnt's authors, from their DADA: one classifier, and 90,000 steps
with a schedule that ends there. SYNTHIA's lane markings are ignored, as in DADA.
"""

import ml_collections

from configs import default, gta5_to_cityscapes


def get_config(variant: str = "alp_gi") -> ml_collections.ConfigDict:
    """Creates the configuration of a method."""
    config = gta5_to_cityscapes.get_config(variant)
    with config.unlocked():
        config.data.label_set = "cityscapes_16"
        config.data.source = "synthia_rand_cityscapes/all_760x1280"
        config.data.source_size = (760, 1280)
        if default.split_variant(variant)[0] == "advent":
            del config.model.heads.aux
            del config.terms.cross_entropy_aux, config.terms.adversarial_aux
            config.num_steps = config.optimizer.horizon_steps = 90_000
    return config
