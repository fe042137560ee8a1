"""Every architecture of the register obeys every law; a representative part in every run."""

from __future__ import annotations

from functools import lru_cache

import pytest

from graphs import TraceError, trace
from tests.architectures import ARCHITECTURES, available, build
from tests.architectures.laws import LAWS, Subject, subject

QUICK = {
    *("LlamaForCausalLM", "GPT2LMHeadModel", "MambaForCausalLM", "BertForMaskedLM"),
    *("T5ForConditionalGeneration", "CLIPModel", "SwinForImageClassification"),
    *("ConvNextForImageClassification", "resnet_cifar_option_a", "densenet", "mobilenet_v3"),
    *("unet_transposed", "pixel_shuffle_decoder", "vae", "lstm_classifier", "tcn", "siamese"),
}
REFUSED = [name for name, entry in ARCHITECTURES.items() if "refused" in entry.traits]
# Third parties may warn about their own future; what is tested here is what they compute.
pytestmark = pytest.mark.filterwarnings("ignore")


@lru_cache(maxsize=1)
def traced(name: str) -> Subject:
    """The laws of one architecture run one after another, on one trace."""
    return subject(name)


def cases() -> list[object]:
    found = []
    for name in ARCHITECTURES:
        for law in LAWS:
            quick = name in QUICK and (law != "removal, every axis" or name == "GPT2LMHeadModel")
            marks = () if quick else pytest.mark.slow
            if name not in REFUSED:
                found.append(pytest.param(name, law, marks=marks, id=f"{name}-{law}"))
    return found


@pytest.mark.parametrize(("name", "law"), cases())
def test_architecture_obeys_the_law(name, law):
    if not available(ARCHITECTURES[name]):
        pytest.skip(f"{ARCHITECTURES[name].needs} cannot be imported here")
    LAWS[law](traced(name))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_traced_is_refused_with_the_place(name):
    if not available(ARCHITECTURES[name]):
        pytest.skip(f"{ARCHITECTURES[name].needs} cannot be imported here")
    model, inputs = build(name)
    with pytest.raises(TraceError, match=r"decides by the values of a tensor.*\.py:\d+"):
        trace(model, inputs)


def test_every_quick_architecture_exists():
    assert set(ARCHITECTURES) >= QUICK
    assert len(ARCHITECTURES) > 300
