"""Reading raw datasets as downloaded, checking them, and writing them as TFDS records.

files.py      what is in a raw folder, extracted or inside zip files
layout.py     which of these files are the images and labels of a dataset, in pairs
labels.py     label files -> values that are stored
tables.py     what the values in published label files mean
label_map.py  what the values in a user's label files mean
images.py     image files -> 8-bit RGB, checked; PNG files
records.py    one pair -> one record, or what is wrong with it
builder.py    the TFDS builder that writes records
prepare.py    writes configurations of a dataset
check.py      lists everything that is wrong with a raw dataset
cli.py        the command line of all raw datasets
"""
