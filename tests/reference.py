"""Independent implementations in numpy, written as loops or sums, in float64."""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def self_information(logits: np.ndarray) -> np.ndarray:
    probs = softmax(logits)
    return np.where(probs > 0, -probs * np.log(np.maximum(probs, 1e-300)), 0.0)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    total, count = 0.0, 0
    for position in np.ndindex(labels.shape):
        if labels[position] == 255:
            continue
        total -= np.log(softmax(logits[position])[labels[position]])
        count += 1
    return total, count


def binary_cross_entropy(domain_logits: np.ndarray, domain: int) -> np.ndarray:
    probs = 1.0 / (1.0 + np.exp(-domain_logits))
    return -np.log(probs if domain == 1 else 1.0 - probs)


def upsample(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear with aligned corners, pixel by pixel."""
    batch, height, width, channels = maps.shape
    out = np.zeros((batch, *size, channels))
    for i in range(size[0]):
        for j in range(size[1]):
            y = i * (height - 1) / max(size[0] - 1, 1)
            x = j * (width - 1) / max(size[1] - 1, 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            v, u = y - top, x - left
            upper = (1 - u) * maps[:, top, left] + u * maps[:, top, right]
            lower = (1 - u) * maps[:, bottom, left] + u * maps[:, bottom, right]
            out[:, i, j] = (1 - v) * upper + v * lower
    return out


def conv(
    inputs: np.ndarray, kernel: np.ndarray, stride: int, dilation: int, padding: int
) -> np.ndarray:
    """Convolution as PyTorch defines it: [B, H, W, C] by [k, k, C, F], zeros on every side."""
    size = kernel.shape[0]
    padded = np.pad(inputs, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = (
        (side + 2 * padding - dilation * (size - 1) - 1) // stride + 1 for side in inputs.shape[1:3]
    )
    out = np.zeros((inputs.shape[0], height, width, kernel.shape[-1]))
    for i in range(height):
        for j in range(width):
            for y in range(size):
                for x in range(size):
                    pixel = padded[:, i * stride + y * dilation, j * stride + x * dilation]
                    out[:, i, j] += pixel @ kernel[y, x]
    return out


def discriminate(params: dict[str, dict[str, np.ndarray]], maps: np.ndarray) -> np.ndarray:
    """The discriminator: 4x4 convolutions of stride 2, leaky ReLU of slope 0.2 between them."""
    features = maps
    for i in range(len(params)):
        if i > 0:
            features = np.where(features > 0, features, 0.2 * features)
        layer = params[f"conv{i}"]
        features = conv(features, np.asarray(layer["kernel"], np.float64), 2, 1, 1) + layer["bias"]
    return features
