"""Reading raw datasets as downloaded, checking them, and writing them as TFDS records.

files.py    what is in a raw folder, extracted or inside zip files
layout.py   which of these files are the images and labels of a dataset, in pairs
labels.py   label files -> Cityscapes label ids
images.py   image files -> 8-bit RGB, checked; PNG files
records.py  one pair -> one record, or what is wrong with it
builder.py  the TFDS builder that writes records
prepare.py  writes configurations of a dataset
check.py    lists everything that is wrong with a raw dataset
cli.py      the command line of all raw datasets
"""
