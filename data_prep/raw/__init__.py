"""Reads raw datasets as downloaded, checks them, and writes them as TFDS records.

files.py      lists and reads the files of a raw folder, extracted or inside zip files
layout.py     finds the images and labels of a dataset among these files, in pairs
labels.py     label files -> stored values
tables.py     classes of the values in published label files
label_map.py  classes of the values in a user's label files
images.py     image files -> 8-bit RGB, checked; PNG files
records.py    one pair -> one record, or its faults
shards.py     writes the records of a split to files
builder.py    the TFDS builder of all raw datasets
prepare.py    writes configurations of a dataset
check.py      lists all faults of a raw dataset
cli.py        the command line of all raw datasets
"""
