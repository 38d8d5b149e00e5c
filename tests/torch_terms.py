"""Terms of published methods restated in PyTorch: as their code computes them, or in loops.

Logits are [B, K, h, w], at the network's stride; images have the size (H, W).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

IGNORE_LABEL = 255
Size = tuple[int, int]


def upsample(logits: torch.Tensor, size: Size) -> torch.Tensor:
    return F.interpolate(logits, size, mode="bilinear", align_corners=True)


def entropy(
    logits: torch.Tensor, size: Size, *, top_share: float, exponent: float, resolution: str
) -> torch.Tensor:
    """AdvEnt's `entropy_loss`, MinEnt + ER by a loop over images, and the loss of FDA's network."""
    if resolution == "images":
        logits = upsample(logits, size)
    probs = F.softmax(logits, dim=1)
    each = -(probs * torch.log2(probs + 1e-30)).sum(dim=1) / np.log2(probs.shape[1])
    penalty = each if exponent == 0 else torch.pow(each**2.0 + 1e-8, exponent)
    if top_share == 1.0:
        return penalty.mean()
    taken = []
    for image, values in zip(each, penalty, strict=True):
        ranked = sorted(image.flatten().tolist(), reverse=True)
        least = ranked[max(1, round(top_share * len(ranked))) - 1]
        taken += [
            values[y, x]
            for y in range(image.shape[0])
            for x in range(image.shape[1])
            if image[y, x].item() >= least
        ]
    return torch.stack(taken).mean()


def class_ratio_prior(
    logits: torch.Tensor, size: Size, *, mu: float, class_shares: Sequence[float]
) -> torch.Tensor:
    """Sums max(0, mu p_s(c) - E p_t(c)) over classes, one image after another."""
    total = torch.zeros((), dtype=logits.dtype)
    for image in F.softmax(upsample(logits, size), dim=1):
        for found, share in zip(image, class_shares, strict=True):
            total = total + torch.clamp(mu * share - found.mean(), min=0)
    return total / len(logits)


def model_regularizer(
    logits: torch.Tensor,
    size: Size,
    labels: torch.Tensor,
    from_target: torch.Tensor,
    *,
    penalty: str,
) -> torch.Tensor:
    """CRST's `reg_loss_calc` with a weight of 1 for target images, 0 for source images."""
    logits = upsample(logits, size)
    num_classes = logits.shape[1]
    valid = (labels != IGNORE_LABEL).to(logits.dtype)[:, None]
    count = (labels[from_target] != IGNORE_LABEL).sum()
    probs, log_probs = F.softmax(logits, dim=1), F.log_softmax(logits, dim=1)
    each = {
        "kld_uniform": -log_probs / num_classes,
        "negative_entropy": probs * log_probs,
        "l2": probs**2,
    }[penalty]
    weights = from_target.to(logits.dtype)[:, None, None, None]
    return (each * valid * weights).sum() / count


def soft_cross_entropy(logits: torch.Tensor, size: Size, soft_labels: torch.Tensor) -> torch.Tensor:
    """The first part of CRST's `reg_loss_calc_expand`; soft labels are [B, K, H, W]."""
    count = (soft_labels.sum(1) != 0.0).sum()
    return (-F.log_softmax(upsample(logits, size), dim=1) * soft_labels).sum() / count


def focal_cross_entropy(
    logits: torch.Tensor, size: Size, labels: torch.Tensor, *, gamma: float
) -> torch.Tensor:
    """CLAN's `CrossEntropy2d`, but that the code mixes up pixels of batches of more than one."""
    probs = torch.clamp(F.softmax(upsample(logits, size), dim=1), min=1e-9, max=1 - 1e-9)
    mask = (labels >= 0) * (labels != IGNORE_LABEL)
    picked = probs.permute(0, 2, 3, 1)[mask].gather(1, labels[mask].view(-1, 1))
    return (-torch.pow(1 - picked, gamma) * picked.log()).mean()


def weight_cosine(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> torch.Tensor:
    """CLAN's weight discrepancy: the vectors are concatenated one tensor after another."""
    w5 = torch.cat([tensor.reshape(-1) for tensor in first])
    w6 = torch.cat([tensor.reshape(-1) for tensor in second])
    return torch.matmul(w5, w6) / (torch.norm(w5) * torch.norm(w6)) + 1


def exchange_amplitudes(source: np.ndarray, target: np.ndarray, beta: float) -> np.ndarray:
    """FDA's `FDA_source_to_target_np` for [C, H, W] images of one size, step by step."""
    fft_source, fft_target = (np.fft.fft2(image, axes=(-2, -1)) for image in (source, target))
    amplitude, phase = np.abs(fft_source), np.angle(fft_source)
    amplitude = np.fft.fftshift(amplitude, axes=(-2, -1))
    other = np.fft.fftshift(np.abs(fft_target), axes=(-2, -1))
    height, width = amplitude.shape[1:]
    b = np.floor(np.amin((height, width)) * beta).astype(int)
    c_h, c_w = np.floor(height / 2.0).astype(int), np.floor(width / 2.0).astype(int)
    rows, columns = slice(c_h - b, c_h + b + 1), slice(c_w - b, c_w + b + 1)
    amplitude[:, rows, columns] = other[:, rows, columns]
    amplitude = np.fft.ifftshift(amplitude, axes=(-2, -1))
    return np.real(np.fft.ifft2(amplitude * np.exp(1j * phase), axes=(-2, -1)))


def resize_by_fourier_series(image: np.ndarray, size: Size) -> np.ndarray:
    """Evaluates the Fourier series of an image [C, h, w], frequencies below h/2 and w/2, anew."""
    channels, height, width = image.shape
    spectrum = np.fft.fft2(image, axes=(-2, -1))
    out = np.zeros((channels, *size), complex)
    y, x = np.arange(size[0])[:, None] / size[0], np.arange(size[1])[None] / size[1]
    for u in range(-((height - 1) // 2), (height - 1) // 2 + 1):
        for v in range(-((width - 1) // 2), (width - 1) // 2 + 1):
            wave = np.exp(2j * np.pi * (u * y + v * x))
            out += spectrum[:, u, v][:, None, None] * wave / (height * width)
    return out.real
