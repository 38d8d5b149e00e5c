"""Networks in PyTorch with the names of their published files, restated for the tests."""

import math

import torch
from torch import nn
from torch.nn import functional

GRID = 37


class Attention(nn.Module):
    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, width = tokens.shape
        shape = (batch, count, 3, self.num_heads, width // self.num_heads)
        queries, keys, values = self.qkv(tokens).reshape(shape).permute(2, 0, 3, 1, 4)
        weights = (queries @ keys.transpose(-2, -1) / math.sqrt(shape[-1])).softmax(-1)
        return self.proj((weights @ values).transpose(1, 2).reshape(tokens.shape))


class Scale(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens * self.gamma


class Mlp(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(tokens)))


class Block(nn.Module):
    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, num_heads)
        self.ls1 = Scale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)
        self.ls2 = Scale(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class Patches(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, 14, 14)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.proj(images)


class DinoV2(nn.Module):
    """facebookresearch/dinov2's network, and timm's, as `of` says.

    Without registers, Facebook's code resizes position embeddings by a factor with an offset of
    0.1; with registers, to the size with antialiasing, which timm does for both. timm has no mask
    token, and with registers no position embedding of the class token.
    """

    def __init__(self, of: str, width: int, depth: int, num_heads: int, num_registers: int):
        super().__init__()
        self.of, self.num_registers = of, num_registers
        self.has_class_position = of == "facebook" or not num_registers
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        positions = GRID**2 + self.has_class_position
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, width))
        if num_registers:
            name = "register_tokens" if of == "facebook" else "reg_token"
            setattr(self, name, nn.Parameter(torch.zeros(1, num_registers, width)))
        if of == "facebook":
            self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embed = Patches(width)
        self.blocks = nn.ModuleList([Block(width, num_heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def resize(self, positions: torch.Tensor, height: int, width: int) -> torch.Tensor:
        maps = positions.reshape(1, GRID, GRID, -1).permute(0, 3, 1, 2)
        if self.of == "facebook" and not self.num_registers:
            factors = (float(height + 0.1) / GRID, float(width + 0.1) / GRID)
            return functional.interpolate(maps, scale_factor=factors, mode="bicubic")
        return functional.interpolate(maps, size=(height, width), mode="bicubic", antialias=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed(images)
        batch, _, height, width = patches.shape
        positions, first = self.pos_embed, self.cls_token
        if self.has_class_position:
            first, positions = first + positions[:, :1], positions[:, 1:]
        patches = (patches + self.resize(positions, height, width)).flatten(2).transpose(1, 2)
        tokens = [first.expand(batch, -1, -1)]
        if self.num_registers:
            registers = getattr(self, "register_tokens", getattr(self, "reg_token", None))
            tokens.append(registers.expand(batch, -1, -1))
        joined = torch.cat([*tokens, patches], dim=1)
        for block in self.blocks:
            joined = block(joined)
        found = self.norm(joined)[:, 1 + self.num_registers :]
        return found.transpose(1, 2).unflatten(2, (height, width))


class EfficientAttention(nn.Module):
    def __init__(self, width: int, num_heads: int, reduction: int):
        super().__init__()
        self.num_heads, self.reduction = num_heads, reduction
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        batch, *_, channels = maps.shape
        shape = (batch, -1, self.num_heads, channels // self.num_heads)
        reduced = maps
        if self.reduction > 1:
            reduced = self.norm(self.sr(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        queries = self.q(maps).reshape(shape).transpose(1, 2)
        keys, values = self.kv(reduced).chunk(2, dim=-1)
        keys, values = (part.reshape(shape).transpose(1, 2) for part in (keys, values))
        weights = (queries @ keys.transpose(-2, -1) / math.sqrt(shape[-1])).softmax(-1)
        return self.proj((weights @ values).transpose(1, 2).reshape(maps.shape))


class DepthwiseConv(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, 1, 1, groups=width)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.dwconv(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class MixMlp(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.dwconv = DepthwiseConv(4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.dwconv(self.fc1(maps))))


class MixBlock(nn.Module):
    def __init__(self, width: int, num_heads: int, reduction: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = EfficientAttention(width, num_heads, reduction)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MixMlp(width)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = maps + self.attn(self.norm1(maps))
        return maps + self.mlp(self.norm2(maps))


class OverlappingPatches(nn.Module):
    def __init__(self, channels: int, width: int, kernel_size: int, stride: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size, stride, kernel_size // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class Mit(nn.Module):
    """NVlabs/SegFormer's backbone, with the classifier that its files have."""

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...]):
        super().__init__()
        for i, (channels, width) in enumerate(zip((3, *widths), widths, strict=False)):
            sizes = (7, 4) if i == 0 else (3, 2)
            self.add_module(f"patch_embed{i + 1}", OverlappingPatches(channels, width, *sizes))
        stages = zip(widths, depths, (1, 2, 5, 8), (8, 4, 2, 1), strict=True)
        for i, (width, depth, num_heads, reduction) in enumerate(stages):
            blocks = [MixBlock(width, num_heads, reduction) for _ in range(depth)]
            self.add_module(f"block{i + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{i + 1}", nn.LayerNorm(width, eps=1e-6))
        self.head = nn.Linear(widths[-1], 1000)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps, outputs = images.permute(0, 2, 3, 1), []
        for stage in "1234":
            maps = getattr(self, f"patch_embed{stage}")(maps)
            for block in getattr(self, f"block{stage}"):
                maps = block(maps)
            maps = getattr(self, f"norm{stage}")(maps)
            outputs.append(maps.permute(0, 3, 1, 2))
        return outputs


def conv_norm(channels: int, width: int, kernel_size: int, **options: int) -> nn.Sequential:
    dilation = options.get("dilation", 1)
    conv = nn.Conv2d(
        channels, width, kernel_size, padding=dilation * (kernel_size // 2), bias=False, **options
    )
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


class DaFormerHead(nn.Module):
    """lhoyer/DAFormer's head, with dilations (1, 2)."""

    def __init__(self, channels: tuple[int, ...], width: int, num_classes: int):
        super().__init__()
        self.embed = nn.ModuleList([nn.Linear(count, width) for count in channels])
        joined = len(channels) * width
        self.branches = nn.ModuleList(
            [
                conv_norm(joined, width, 1),
                nn.Sequential(
                    conv_norm(joined, joined, 3, dilation=2, groups=joined),
                    conv_norm(joined, width, 1),
                ),
            ]
        )
        self.bottleneck = conv_norm(2 * width, width, 3)
        self.out = nn.Conv2d(width, num_classes, 1)

    def forward(self, stages: list[torch.Tensor]) -> torch.Tensor:
        embedded = [
            functional.interpolate(
                layer(stage.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
                size=stages[0].shape[2:],
                mode="bilinear",
                align_corners=False,
            )
            for layer, stage in zip(self.embed, stages, strict=True)
        ]
        joined = torch.cat(embedded, dim=1)
        branches = [branch(joined) for branch in self.branches]
        return self.out(self.bottleneck(torch.cat(branches, dim=1)))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels, as timm's LayerNorm2d."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LightHead(nn.Sequential):
    """tue-mps/vfm-uda's light head."""

    def __init__(self, width: int, num_classes: int):
        half, quarter = width // 2, width // 4
        super().__init__(
            nn.ConvTranspose2d(width, half, 2, 2, bias=False),
            ChannelNorm(half, eps=1e-6),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, 2, bias=False),
            ChannelNorm(quarter, eps=1e-6),
            nn.Conv2d(quarter, quarter, 3, padding=1, bias=False),
            ChannelNorm(quarter, eps=1e-6),
            nn.Conv2d(quarter, num_classes, 1, bias=False),
        )
