"""Which patches of label maps give their domain away: Figure 1 of Cicek et al., ACCV 2020.

  python -m alp_jax.domain_shift --config=configs/domain_shift.py:gta5 --output=runs/shift_gta5

Variants: `gta5` and `synthia`, each to Cityscapes (prepared as gta5_to_cityscapes.py and
synthia_to_cityscapes.py say), and `toy_cities`, the built-in pair: about 24 minutes on one CPU
core. For own folders (image_folders.py) give --config.data.source, .target and what else differs.

Target labels are read: this analyses a pair of domains, no adaptation sees them.

From the paper (section 4.1): ResNet-18 from scratch, maps of 512x1024 before and after cropping,
SGD with these rates, validation every 100 steps on 500 held-out source maps and 500 of the
target's validation split, three runs. It does not say the batch size, the number of steps or all
patch sizes: these are ours.
"""

import ml_collections

from configs import default

VARIANTS = ("gta5", "synthia", "toy_cities")


def get_config(variant: str = "gta5") -> ml_collections.ConfigDict:
    """Creates the configuration of one of VARIANTS."""
    default.check_variant(variant, VARIANTS)
    config = ml_collections.ConfigDict()
    config.seed = 0  # Decides held-out maps, data order, places of patches and initialisation.
    config.num_runs = 3  # Trainings for each patch size.
    config.patch_sizes = (64, 128, 256, 384)  # Sides in pixels of data.size, beside whole maps.
    config.num_steps = 2_000  # Updates in each training.
    config.eval_every_steps = 100  # Steps between validations.
    config.num_validation = 500  # Maps of each domain.
    config.eval_batch_size = 50  # Maps at a time.
    config.learning_rate = 1e-3  # SGD, fixed.
    config.momentum = 0.9
    config.weight_decay = 1e-4  # Added to the gradient, as in PyTorch.
    config.widths = (64, 128, 256, 512)  # Channels of each stage: ResNet-18.
    config.data = _data()
    if variant == "synthia":
        config.data.source = "synthia_rand_cityscapes/all_760x1280"
        config.data.label_set = "cityscapes_16"
    elif variant == "toy_cities":
        _set_toy_cities(config)
    return config.lock()


def _data() -> ml_collections.ConfigDict:
    data = ml_collections.ConfigDict()
    data.data_dir = "datasets"  # Folder of the prepared datasets.
    data.label_set = "cityscapes_19"  # Classes: cityscapes_19, _16, _13, or a file: my.yaml.
    data.source = "gta5/all_720x1280"  # Validation maps are held out of it at random.
    data.source_split = "train"  # Or a TFDS slice of one: "train[:50%]".
    data.target = "cityscapes/labelled_512x1024"
    data.target_split = "train"
    data.target_validation = "cityscapes/labelled_512x1024"  # "": held out of target, too.
    data.target_validation_split = "validation"
    data.size = (512, 1024)  # (height, width) of maps, and of patches after they are cut.
    data.batch_size = 8  # Maps of each domain in a step.
    data.num_workers = 0  # Processes that read ahead; 0 reads ahead in threads.
    data.prefetch_batches = 4  # Batches read ahead.
    return data


def _set_toy_cities(config: ml_collections.ConfigDict) -> None:
    """An eighth of each side, a quarter of the channels and a fifth of the steps."""
    config.patch_sizes = (8, 16, 32, 48)
    config.num_steps = 400
    config.eval_every_steps = 50
    config.num_validation = 200
    config.widths = (16, 32, 64, 128)
    config.data.label_set = "cityscapes_16"
    config.data.source = "toy_cities/source"
    config.data.target = "toy_cities/target_train_labels"
    config.data.target_validation = "toy_cities/target"
    config.data.size = (64, 128)
