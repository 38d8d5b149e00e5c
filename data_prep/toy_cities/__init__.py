"""Renders two cities with Cityscapes' classes: a synthetic one and a real-looking one.

Synopsis:

  python -m data_prep.toy_cities --data_dir=datasets

  builder = tfds.builder_from_directory("datasets/toy_cities/target_unlabelled/1.0.0")
  examples = builder.as_data_source("train")

See cli.py for the parameters, builder.py for the datasets, and render.py for the rendering.
"""
