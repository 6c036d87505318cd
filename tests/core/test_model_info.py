import pytest

from sapiens_core.model_info import ModelInfo

INFO = ModelInfo(
    task="depth",
    family="sapiens",
    size="0.3b",
    precision="float32",
    runtime="python",
    licence="CC-BY-NC-4.0",
    untrained=False,
    checkpoint_sha256="ab" * 32,
)


@pytest.mark.parametrize("untrained", [True, False])
def test_facts_survive_the_way_through_a_model_config(untrained):
    info = ModelInfo(**{**vars(INFO), "untrained": untrained})
    assert ModelInfo.from_parameters(info.to_parameters()) == info


def test_missing_facts_are_named():
    with pytest.raises(ValueError, match=r"\['licence'\].*sapiens export"):
        ModelInfo.from_parameters(
            {name: value for name, value in INFO.to_parameters().items() if name != "licence"}
        )
