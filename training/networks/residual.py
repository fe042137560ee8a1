"""Residual networks for small images, He et al. (arXiv 1512.03385), section 4.2."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.registry import ARCHITECTURES


class PadShortcut(nn.Module):
    """Option A: skip every other row and column and pad the new channels with zeros.

    (B, C, H, W) -> (B, C_out, ceil(H / 2), ceil(W / 2)) for stride 2. It has no parameters. An
    odd number of new channels has the extra one behind.
    """

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        new = out_channels - channels
        self.stride = stride
        self.before, self.behind = new // 2, new - new // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return the subsampled, padded input."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.behind))


class BasicBlock(nn.Module):
    """act(bn(conv(act(bn(conv(x))))) + shortcut(x)), with 3x3 convolutions.

    Args:
        channels, out_channels, stride: of the block.
        shortcut: `pad` (option A) or `project` (option B, 1x1 convolution); where the shapes of
            input and output agree, both are the identity.
        inner: channels between the two convolutions; `out_channels` when None.
        act: builds the activation.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        stride: int,
        *,
        shortcut: str = "pad",
        inner: int | None = None,
        act: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        inner = inner or out_channels
        self.conv1 = nn.Conv2d(channels, inner, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or channels != out_channels:
            if shortcut == "pad":
                self.shortcut = PadShortcut(channels, out_channels, stride)
            else:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(channels, out_channels, 1, stride, bias=False),
                    nn.BatchNorm2d(out_channels),
                )
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out_channels, H / stride, W / stride)."""
        inner = self.act(self.bn1(self.conv1(x)))
        return self.act(self.bn2(self.conv2(inner)) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem, stages of basic blocks, the mean over positions, and a linear classifier.

    Stage i is `layer{i}`, so the names of parameters are those of the CIFAR checkpoints of
    akamaster/pytorch_resnet_cifar10.

    Args:
        in_channels, classes: of the task.
        blocks: number of blocks of every stage; every stage but the first halves the image.
        widths: channels of every stage.
        shortcut: `pad` or `project`.
        inner: channels inside the blocks over channels of their stage.
        act: builds the activations.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        classes: int = 10,
        blocks: Sequence[int],
        widths: Sequence[int],
        shortcut: str = "pad",
        inner: float = 1.0,
        act: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        if shortcut not in ("pad", "project"):
            raise ValueError(f"shortcut must be pad or project (got {shortcut!r})")
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act = act()
        self.stages = len(blocks)
        channels = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            layer = nn.Sequential()
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                layer.append(
                    BasicBlock(
                        channels,
                        width,
                        stride,
                        shortcut=shortcut,
                        inner=round(inner * width),
                        act=act,
                    )
                )
                channels = width
            self.add_module(f"layer{stage + 1}", layer)
        self.linear = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> logits (B, classes)."""
        x = self.act(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.linear(x.mean((2, 3)))


@ARCHITECTURES.register("cifar_resnet")
def cifar_resnet(depth: int = 20, width: int = 16, classes: int = 10) -> ResNet:
    """Build He et al.'s ResNet for CIFAR with option-A shortcuts: depth 20, 32, 44, 56, 110.

    Args:
        depth: 6 n + 2 layers, n blocks in each of three stages.
        width: channels of the first stage; 16 in the paper.
        classes: outputs.

    Raises:
        ValueError: if the depth is not 6 n + 2.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth must be 6 n + 2 for n >= 1, as 20, 32 or 56 (got {depth})")
    count = (depth - 2) // 6
    widths = (width, 2 * width, 4 * width)
    return ResNet(classes=classes, blocks=(count,) * 3, widths=widths, shortcut="pad")
