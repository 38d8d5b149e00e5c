"""Every field of a run, with the paper's values: ALP-GI, GTA5 -> Cityscapes, DeepLabv2-ResNet101.

Other configurations begin with this one: gta5_to_cityscapes.py and synthia_to_cityscapes.py are the
paper's experiments, image_folders.py is for your own images, toy_cities.py for the built-in pair.

Cicek et al., "Spatial Class Distribution Shift in Unsupervised Domain Adaptation: Local Alignment
Comes to Rescue", ACCV 2020. Where the paper is silent, the values are those of AdvEnt's published
code, which it builds on; such fields are marked (AdvEnt). Override any field on the command line:
`--config.objective.patch_size=128,128`.
"""

from collections.abc import Collection

import ml_collections

# What each method of the paper's Tables 3 and 4 changes in `config.objective`; `target_bn` is not
# in them: source-only training whose batch norm also sees target images.
METHODS: dict[str, dict[str, object]] = {
    "source_only": {"use_target": False, "patch": "whole"},
    "target_bn": {"use_target": True, "patch": "none"},
    "ap_ci": {"use_target": True, "patch": "image_crop"},
    "agp_gi": {"use_target": True, "patch": "whole"},
    "alp_gi": {"use_target": True, "patch": "random"},
}


def get_config(variant: str = "alp_gi") -> ml_collections.ConfigDict:
    """Creates the configuration of one of METHODS."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # Decides data order, flips, patches and initialisation.
    config.num_steps = 150_000  # Updates of both players.
    config.init_from = ""  # Workdir, or converted weights, for the segmenter's start; or none.
    config.start_variant = ""  # Variant that init_from is a run of; a study trains it by itself.
    config.log_every_steps = 100  # Steps averaged to one line of metrics.jsonl.
    config.tensorboard = True  # The same for TensorBoard; TensorFlow's import takes seconds.
    config.data = _data()
    config.model = _model()
    config.discriminator = _discriminator()
    config.objective = _objective()
    config.optimizer = _optimizer()
    config.evaluation = _evaluation()
    config.checkpoint = _checkpoint()
    config.guards = _guards()
    config.mesh = _mesh()
    apply_method(config, variant)
    return config.lock()


def check_variant(variant: str, variants: Collection[str]) -> None:
    """Raises ValueError if a variant is not one of those there are."""
    if variant not in variants:
        raise ValueError(f"Unknown variant {variant!r}: expected one of {', '.join(variants)}.")


def apply_method(config: ml_collections.ConfigDict, method: str) -> None:
    """Makes the objective that of one of METHODS.

    Raises:
      ValueError: if there is no such method.
    """
    check_variant(method, METHODS)
    config.objective.update(METHODS[method])


def _data() -> ml_collections.ConfigDict:
    data = ml_collections.ConfigDict()
    data.data_dir = "datasets"  # Folder of the prepared datasets.
    data.label_set = "cityscapes_19"  # Classes: cityscapes_19, _16, _13, or a file: my.yaml.
    data.source = "gta5/all"  # Labelled domain, a dataset under data_dir.
    data.source_split = "train"  # Or a TFDS slice of one: "train[:50%]"; the target's as well.
    data.source_size = (720, 1280)  # (height, width) that source images and labels are resized to.
    data.target = "cityscapes/unlabelled"  # Domain to adapt to; a dataset without labels.
    data.target_split = "train"  # Of the dataset without labels.
    data.target_size = (512, 1024)  # (height, width) of target images, in evaluation too.
    data.image_resize = "bicubic"  # "bicubic" or "bilinear" (Pillow, antialiased); labels: nearest.
    data.flip_probability = 0.0  # Of a horizontal flip, in both domains; 0 (AdvEnt).
    data.batch_size = 1  # Images of each domain in a step.
    data.num_workers = 0  # Processes that read ahead; 0 reads ahead in threads.
    data.prefetch_batches = 4  # Batches read ahead.
    data.max_bad_records = 0  # Corrupt records that training may leave out; 0: the first stops it.
    return data


def _model() -> ml_collections.ConfigDict:
    model = ml_collections.ConfigDict()
    model.stem = "imagenet"  # "imagenet" (7x7 and max-pool) or "two_convs" (3x3), both stride 4.
    model.stem_widths = (64,)  # Channels of the stem's convolutions.
    model.block = "bottleneck"  # "bottleneck" or "basic".
    model.stride_in = "1x1"  # Bottleneck's convolution with the stride: "1x1" (Caffe) or "3x3".
    model.depths = (3, 4, 23, 3)  # Residual blocks in each stage: ResNet-101.
    model.widths = (
        64,
        128,
        256,
        512,
    )  # Channels in each stage, a quarter of a bottleneck's output.
    model.strides = (1, 2, 1, 1)  # Of each stage's first block; output stride 8.
    model.dilations = (1, 1, 2, 4)  # Of each stage's 3x3 convolutions.
    model.classifier_dilations = (6, 12, 18, 24)  # Branches of the classifier, summed.
    model.aux_classifier = False  # Another on the last stage but one, as AdvEnt's multi-level one.
    model.batch_norm_mode = "running"  # "running" (the paper), "batch" (AdvEnt) or "frozen" (CRST).
    model.batch_norm_train_affine = False  # Whether scale and bias learn; False (AdvEnt).
    model.kernel_init = "normal_0.01"  # Of backbone convolutions: "normal_0.01" or "he_normal".
    model.input_order = "bgr"  # Channel order of the weights: "bgr" (Caffe) or "rgb".
    model.input_mean = (104.00698793, 116.66876762, 122.67891434)  # In that order, grey levels.
    model.input_std = (1.0, 1.0, 1.0)  # In that order, grey levels.
    # Of activations: "float32" or "bfloat16" (half the memory; parameters, statistics, softmax and
    # losses stay in single precision).
    model.activation_dtype = "float32"
    model.scan_blocks = True  # Equal blocks as one loop: faster on the CPU. Same values either way.
    model.rematerialise = False  # Compute activations twice rather than keep them: less memory.
    return model


def _discriminator() -> ml_collections.ConfigDict:
    discriminator = ml_collections.ConfigDict()
    discriminator.widths = (
        64,
        128,
        256,
        512,
    )  # All but the last convolution, which has 1 (AdvEnt).
    discriminator.activation_dtype = "float32"  # As model.activation_dtype.
    return discriminator


def _objective() -> ml_collections.ConfigDict:
    objective = ml_collections.ConfigDict()
    objective.use_target = True  # False: no target image goes through the network (source-only).
    objective.aligned_map = "self_information"  # or "normalized_self_information", "softmax".
    # "random" patch of the prediction, "whole" map, "image_crop", or "none": nothing is aligned.
    objective.patch = "random"
    objective.patch_size = (256, 256)  # (height, width) in pixels of the input; unused for "whole".
    objective.num_patches = 1  # Patches per image.
    objective.decision = "cell"  # "cell" (AdvEnt): a score per cell; "patch": their mean, one each.
    objective.game = "non_saturating"  # (AdvEnt), or "minimax": Eq. (4) to the letter.
    objective.adversarial_weight = 0.001  # lambda of Eq. (4).
    objective.aux_cross_entropy_weight = 0.1  # (AdvEnt) Of model.aux_classifier, as the next.
    objective.aux_adversarial_weight = 0.0002  # (AdvEnt)
    # Whose images update the running statistics; the paper does not say, both do in AdvEnt's code.
    objective.batch_norm_update_domains = ("source", "target")
    return objective


def _optimizer() -> ml_collections.ConfigDict:
    optimizer = ml_collections.ConfigDict()
    optimizer.segmenter_learning_rate = 2.5e-4  # SGD, backbone.
    optimizer.classifier_learning_rate_multiplier = 10.0  # (AdvEnt)
    # "reference": published code lists each backbone tensor three or four times in its optimizer,
    # and the rates above, which the paper shares, were chosen with that. "clean": once.
    optimizer.sgd_preset = "reference"  # (AdvEnt)
    optimizer.momentum = 0.9  # (AdvEnt)
    optimizer.weight_decay = 5e-4  # (AdvEnt) Added to the gradient, as in PyTorch.
    optimizer.gradient_clip_norm = 0.0  # Global norm of the segmenter's gradient; 0: no clipping.
    optimizer.discriminator_learning_rate = 1e-4  # Adam.
    optimizer.adam_b1 = 0.9  # (AdvEnt)
    optimizer.adam_b2 = 0.99  # (AdvEnt)
    optimizer.adam_eps = 1e-8  # (AdvEnt)
    optimizer.poly_power = 0.9  # (AdvEnt) Both rates: base * (1 - step / horizon_steps) ** power.
    optimizer.horizon_steps = 250_000  # (AdvEnt) Steps at which the rates reach 0.
    return optimizer


def _evaluation() -> ml_collections.ConfigDict:
    evaluation = ml_collections.ConfigDict()
    evaluation.dataset = "cityscapes/labelled"  # Scored; without labels: entropy, pictures.
    evaluation.split = "validation"  # That training evaluates, and chooses "best" by.
    evaluation.reported_split = ""  # That a study scores at the end; "": the same.
    evaluation.batch_size = 1  # Images at a time.
    evaluation.every_steps = 2_000  # Evaluate and save a checkpoint; also at the last step.
    evaluation.num_sheet_images = 6  # Rows of the sheet of pictures.
    return evaluation


def _checkpoint() -> ml_collections.ConfigDict:
    checkpoint = ml_collections.ConfigDict()
    checkpoint.every_steps = 500  # Save this often between evaluations too.
    checkpoint.keep_last = 3  # Latest checkpoints kept, beside the best.
    return checkpoint


def _guards() -> ml_collections.ConfigDict:
    guards = ml_collections.ConfigDict()
    # Warn when the discriminator's accuracy is pinned at 1 or at 1/2 in so many lines of
    # metrics.jsonl on end; 0: never.
    guards.discriminator_patience = 20
    guards.discriminator_tolerance = 0.005  # How far from 1, or 1/2, still counts as pinned.
    return guards


def _mesh() -> ml_collections.ConfigDict:
    mesh = ml_collections.ConfigDict()
    # Devices that share the images of a batch; 0: as many as divide batch and devices.
    mesh.data = 0
    # Devices that share the rows of an image; 0: as many of the others as divide the heights.
    mesh.space = 0
    return mesh
