"""What CRST's published code does to confidences, labels and crops, restated with lists and loops.

yzou2/CRST: crst_seg.py (`val`, `kc_parameters`, `label_selection`) and deeplab/datasets.py.
"""

import math

import numpy as np


def pool_confidences(images, num_classes, stride):
    """The pools of confidences, and the number of pixels that are predicted as each class.

    Args:
      images: probabilities [H, W, K] float32 of each.
    """
    pools, sizes = {k: [] for k in range(num_classes)}, np.zeros(num_classes)
    for probs in images:
        prediction, confidence = np.argmax(probs, axis=2), np.amax(probs, axis=2)
        for k in range(num_classes):
            mask = prediction == k
            sizes[k] += np.sum(mask)
            held = confidence[mask].astype(np.float32)
            pools[k].extend(held[0 : held.size : stride])
    return pools, sizes


def find_thresholds(pools, portion):
    thresholds = np.ones(len(pools), np.float32)
    for k, pool in pools.items():
        ranked = sorted(pool, reverse=True)
        size = math.floor(len(ranked) * portion)
        if size != 0:
            thresholds[k] = ranked[size - 1]
    return thresholds


def find_global_threshold(pools, portion):
    """CBST's code, kc_policy global: one pool of all classes."""
    ranked = sorted([value for pool in pools.values() for value in pool], reverse=True)
    return ranked[math.floor(len(ranked) * portion) - 1]


def label_hard(probs, thresholds):
    weighted = probs / thresholds
    labels = np.asarray(np.argmax(weighted, axis=2), np.uint8)
    labels[np.amax(weighted, axis=2) < 1] = 255
    return labels


def label_soft(probs, thresholds, alpha):
    """(soft labels [H, W, K], hard labels [H, W], how far each pixel is from being ignored)."""
    soft = np.power(probs / thresholds, 1.0 / alpha)
    soft = (soft.transpose(2, 0, 1) / soft.sum(2)).transpose(1, 2, 0)
    regularised = np.sum(-soft * np.log(probs + 1e-32) + alpha * soft * np.log(soft + 1e-32), 2)
    selected = np.sum(-soft * np.log(thresholds + 1e-32), 2)
    labels = np.asarray(np.argmax(soft, axis=2), np.uint8)
    labels[regularised >= selected] = 255
    return soft, labels, selected - regularised


def find_corner(seed, length, crop):
    """Where a mined crop begins on one axis (Python 2's division of whole numbers)."""
    half = crop // 2
    first, last = seed - half, seed + half - 1
    if first < 0:
        first = 0
    elif last > length - 1:
        first = first - ((half - 1) - (length - 1 - seed))
    return first


def scale_nearest(label, factor):
    """OpenCV's nearest neighbour: the pixel at floor(i / factor)."""
    height, width = (round(side * factor) for side in label.shape)
    scaled = np.empty((height, width), label.dtype)
    for i in range(height):
        for j in range(width):
            row = min(math.floor(i / factor), label.shape[0] - 1)
            scaled[i, j] = label[row, min(math.floor(j / factor), label.shape[1] - 1)]
    return scaled


def scale_linear(image, factor):
    """OpenCV's bilinear resizing: centres of pixels, not antialiased, the border repeated."""
    height, width = (round(side * factor) for side in image.shape[:2])
    scaled = np.empty((height, width, image.shape[2]))
    for i in range(height):
        for j in range(width):
            weights = []
            for at, side in ((i, image.shape[0]), (j, image.shape[1])):
                place = min(max((at + 0.5) / factor - 0.5, 0), side - 1)
                lower = min(math.floor(place), side - 2)
                weights.append(((lower, 1 - place + lower), (lower + 1, place - lower)))
            scaled[i, j] = sum(
                w_row * w_column * image[row, column].astype(float)
                for row, w_row in weights[0]
                for column, w_column in weights[1]
            )
    return scaled
