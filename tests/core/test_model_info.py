from dataclasses import replace

import pytest

from sapiens_core.contract.model_info import ModelInfo

INFO = ModelInfo(
    task="pose",
    family="sapiens",
    size="0.3b",
    labels="coco",
    precision="float32",
    runtime="python",
    preprocess="full",
    flip_test=False,
    licence="CC-BY-NC-4.0",
    untrained=False,
    checkpoint_sha256="ab" * 32,
)


@pytest.mark.parametrize("flag", [True, False])
def test_facts_survive_the_way_through_a_model_config(flag):
    info = replace(INFO, untrained=flag, flip_test=not flag)
    assert ModelInfo.from_parameters(info.to_parameters()) == info


def test_missing_facts_are_named():
    parameters = INFO.to_parameters()
    del parameters["licence"]
    with pytest.raises(ValueError, match=r"\['licence'\].*sapiens export"):
        ModelInfo.from_parameters(parameters)
