"""Subjects judge on images that calibration lacks."""

import torch
from torch import nn

from benchmarks.expected_loss import images
from benchmarks.expected_loss.images import accuracy, subject
from training.data.core import Data
from training.data.split import Split
from training.data.tasks import Classification


def _split(count: int) -> Split:
    generator = torch.Generator().manual_seed(count)
    stored = torch.randint(0, 256, (count, 4, 4, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 5, (count,), generator=generator)
    return Split(stored, labels, lambda x: x.float().permute(0, 3, 1, 2) / 255)


def test_calibration_and_judged_images_are_apart_and_drawn_by_the_seed() -> None:
    data = Data(
        "toy", _split(1100), _split(3), _split(7), Classification(5), (3, 4, 4), 5, "toy"
    )  # fmt: skip
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5)).eval()
    seen: list[torch.Tensor] = []
    first = subject(model, data, 64, seed=0, tested=False)

    class Watching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return model(x)

    figures = first.judge(Watching())
    assert figures["kl"] == 0
    judged = {tuple(image.flatten().tolist()) for image in torch.cat(seen)}
    used = {tuple(i.flatten().tolist()) for (b,) in first.calibration.batches for i in b}
    assert len(used) == 64
    assert len(judged) == images.LEFT_OUT
    assert judged.isdisjoint(used)
    again = subject(model, data, 64, seed=0, tested=False)
    other = subject(model, data, 64, seed=1, tested=False)
    assert first.calibration.digest == again.calibration.digest
    assert first.calibration.digest != other.calibration.digest


def test_accuracy_is_in_per_cent() -> None:
    scores = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert accuracy(scores, torch.tensor([1, 0, 0, 0])) == 50
