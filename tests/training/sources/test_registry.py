from __future__ import annotations

import pytest
import torch

from training import sources, zoo
from training.zoo.members import save_member


class TestSources:
    def test_zoo_families_and_members(self, tmp_path):
        spec = zoo.sample(1, (1, 8, 8), 10, ("mlp",))
        model = zoo.build(spec)
        folder = tmp_path / "mlp-00001"
        save_member(folder, spec, model, {"best": {}})
        loaded = sources.load("member", path=str(folder))
        named = sources.load("family", family="mlp", options=spec.options, shape=(1, 8, 8),
            outputs=10, seed=1)  # fmt: skip
        for other in (loaded, named):
            assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())

    def test_transformers_folder(self, tmp_path):
        model = zoo.build(zoo.sample(0, (15,), 32)).eval()
        model.save_pretrained(tmp_path)
        loaded = sources.load("transformers", path=str(tmp_path))
        ids = torch.randint(32, (1, 15))
        assert type(loaded) is type(model)
        assert loaded.config.use_cache is False
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)

    def test_function(self):
        model = sources.load("function", function="torch.nn:Linear",
            options={"in_features": 2, "out_features": 3})  # fmt: skip
        assert not model.training
        assert model.weight.shape == (3, 2)

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"source": "zip"}, 'unknown source of models "zip": expected one of family, function'),
            (
                {"source": "member", "folder": "x"},
                r'^model\.folder: unknown setting "folder": expected one of path',
            ),
            ({"source": "family", "family": "gan", "shape": [1], "outputs": 1}, "unknown family"),
            ({"source": "family", "family": "mlp"}, "needs `shape` and `outputs`"),
            (
                {"source": "family", "family": "cifar_resnet", "options": {"x": 1}},
                "cannot be built",
            ),
            (
                {"source": "function", "function": "torch.nn:Absent"},
                "no function 'torch.nn:Absent'",
            ),
            ({"source": "function", "function": "nonsense"}, "write it as package.module:function"),
            ({"source": "function", "function": "builtins:dict"}, "must return a torch.nn.Module"),
        ],
    )
    def test_errors(self, config, message):
        with pytest.raises(ValueError, match=message):
            sources.load(**config)
