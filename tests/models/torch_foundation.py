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
