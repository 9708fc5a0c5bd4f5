"""FCN-8s in plain PyTorch as one would write it today. Arguments: forward|train, size, full|narrow."""

from __future__ import annotations

import os
import sys

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import serve  # noqa: E402

task, size, width = sys.argv[1], int(sys.argv[2]), sys.argv[3]
scale = 1 if width == "full" else 8
WIDTHS = [w // scale for w in (64, 128, 256, 512, 512, 4096)]


class FCN8s(nn.Module):
    """VGG16 with 100 pixels of padding, three scores, bilinear upsampling with frozen kernels, and crops."""

    def __init__(self) -> None:
        super().__init__()
        stages, channels = [], 3
        for stage, (count, w) in enumerate(zip((2, 2, 3, 3, 3), WIDTHS)):
            layers = []
            for i in range(count):
                layers += [nn.Conv2d(channels, w, 3, padding=100 if stage == i == 0 else 1), nn.ReLU(inplace=True)]
                channels = w
            stages.append(nn.Sequential(*layers, nn.MaxPool2d(2, 2, ceil_mode=True)))
        self.stages = nn.ModuleList(stages)
        fc = WIDTHS[-1]
        self.head = nn.Sequential(nn.Conv2d(channels, fc, 7), nn.ReLU(inplace=True), nn.Dropout(), nn.Conv2d(fc, fc, 1),
                                  nn.ReLU(inplace=True), nn.Dropout(), nn.Conv2d(fc, 21, 1))
        self.score4, self.score3 = nn.Conv2d(WIDTHS[3], 21, 1), nn.Conv2d(WIDTHS[2], 21, 1)
        self.up2, self.up4 = (nn.ConvTranspose2d(21, 21, 4, 2, bias=False).requires_grad_(False) for _ in range(2))
        self.up8 = nn.ConvTranspose2d(21, 21, 16, 8, bias=False).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (1, 3, H, W) to scores (1, 21, H, W)."""
        h, pools = x, []
        for stage in self.stages:
            h = stage(h)
            pools.append(h)
        up = self.up2(self.head(h))
        fuse = up + self.score4(pools[3])[:, :, 5 : 5 + up.shape[2], 5 : 5 + up.shape[3]]
        up = self.up4(fuse)
        fuse = up + self.score3(pools[2])[:, :, 9 : 9 + up.shape[2], 9 : 9 + up.shape[3]]
        return self.up8(fuse)[:, :, 31 : 31 + x.shape[2], 31 : 31 + x.shape[3]]


torch.manual_seed(0)
net = FCN8s().train(task == "train")
images, labels = torch.randn(1, 3, size, size) * 50, torch.zeros(1, size, size, dtype=torch.long)
optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 1e-14, 0.99, weight_decay=0.0005)


@torch.no_grad()
def forward() -> None:
    """One image through the net."""
    net(images)


def step() -> None:
    """One step of training."""
    optimizer.zero_grad()
    F.cross_entropy(net(images), labels, ignore_index=255, reduction="sum").backward()
    optimizer.step()


serve(forward if task == "forward" else step)
