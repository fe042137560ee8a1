from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from training.data.tasks import IGNORED
from training.recovery.distilled import distillation_loss


def test_distillation_loss_is_the_divergence():
    student, teacher = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    targets = torch.tensor([[0, 1, IGNORED], [2, IGNORED, 3]])
    counted = targets != IGNORED
    p, q = (F.softmax(x[counted] / 2, -1) for x in (teacher, student))
    expected = 4 * (p * (p.log() - q.log())).sum(-1).mean()
    torch.testing.assert_close(distillation_loss(student, teacher, targets, 2.0), expected)
    assert float(distillation_loss(teacher, teacher, targets, 2.0)) == pytest.approx(0, abs=1e-6)
    image_targets = torch.tensor([0, 1])
    value = distillation_loss(student[:, 0], teacher[:, 0], image_targets, 1.0)
    assert float(value) > 0
