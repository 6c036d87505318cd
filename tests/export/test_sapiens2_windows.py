"""The second family's backbone whose tokens are windows of patches: 1b-4k, and tiny ones like it."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.tolerances import limits
from sapiens_export.engines.build import build_engine
from sapiens_export.engines.cost import network_cost
from sapiens_export.engines.engine import engine_from_network
from sapiens_export.engines.load import engine_from_file
from sapiens_export.engines.reduced import ServedNetwork
from sapiens_export.exporter import EngineOptions, model_info
from sapiens_export.networks.config import read_network
from sapiens_export.networks.sapiens2 import Sapiens2Network
from sapiens_export.networks.sapiens2_config import released_sapiens2
from sapiens_export.networks.sapiens2_parts import WindowTokenizer
from sapiens_export.parity.compare import parity
from sapiens_export.parity.reference import reference
from sapiens_export.weights.sapiens2 import recognised_sapiens2
from sapiens_export.weights.sources import source_from_checkpoint, source_from_seed

MAX_ERROR = 1e-5  # tests/golden/sapiens2/README.md; 1.2e-6 is seen
LOCAL_POSITIONS = "tokenizer.local_pos_embed"


@pytest.fixture(scope="module")
def source(windowed_config):
    return source_from_seed(windowed_config, 0)


@pytest.fixture(scope="module")
def weights(source):
    state = source.network.official_state_dict()
    return {name: each.detach().contiguous() for name, each in state.items() if not name.endswith("periods")}


@pytest.fixture
def file_with(tmp_path):
    def saved(weights):
        save_file(weights, tmp_path / "model.safetensors")
        return tmp_path / "model.safetensors"

    return saved


def test_tokens_of_windows_equal_the_reference(golden2_folder):
    vectors = load_file(golden2_folder / "net_4k_tokenizer.safetensors")
    prefix = "sd.tokenizer."
    weights = {name.removeprefix(prefix): vectors[name] for name in vectors if name.startswith(prefix)}
    tokenizer = WindowTokenizer(24, num_heads=4, window=4, num_layers=2)
    tokenizer.load_state_dict(weights)
    with torch.no_grad():
        found = tokenizer(vectors["input_tokens"].transpose(1, 2).unflatten(2, (16, 12)))
    expected = vectors["output_tokens"].transpose(1, 2).unflatten(2, (4, 3))
    np.testing.assert_allclose(found, expected, rtol=0, atol=MAX_ERROR)


def test_the_backbone_takes_windows_as_it_takes_patches(source, windowed_config):
    """Also their positions, which are those of a grid of patches of the same size."""
    network = source.network
    state = network.state_dict()
    plain = Sapiens2Network(replace(windowed_config, input_hw=(64, 48), window=1, num_window_layers=0)).eval()
    plain.load_state_dict({name: state[name] for name in state if not name.startswith("tokenizer.")})
    images = torch.rand(2, 3, 192, 144, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = network.tokenizer(network.model.embeddings.patch_embeddings(images))
        plain.model.embeddings.patch_embeddings.register_forward_hook(lambda *_: tokens)
        assert torch.equal(network(images), plain(torch.zeros(2, 3, 64, 48)))


def test_the_released_network_is_told_by_the_shapes_of_its_weights():
    config = released_sapiens2("features", "1b-4k")
    assert (config.input_hw, config.output_hw, config.num_outputs) == ((4096, 3072), (64, 48), 1536)
    with torch.device("meta"):
        weights = Sapiens2Network(config).official_state_dict()
    assert recognised_sapiens2(Task.FEATURES, weights, "released") == config


def test_a_plan_counts_the_tokenizer():
    small, large = (network_cost(released_sapiens2("features", size)) for size in ("1b", "1b-4k"))
    width, num_windows, num_layers = 1536, 64 * 48, 4
    num_rows = num_windows * 17
    products = num_layers * num_rows * (16 * width**2 + 2 * 17 * width)
    patches = (num_windows * 16 - num_windows) * width * 3 * 16**2
    assert large.macs - small.macs == products + patches
    assert large.num_parameters == 1_606_588_928


def test_a_file_with_official_names_is_loaded(weights, source, windowed_config, file_with):
    file = file_with({f"backbone.{name}": each for name, each in weights.items()})
    for config in (windowed_config, None):
        loaded = source_from_checkpoint(Task.FEATURES, file, config)
        state = loaded.network.state_dict()
        expected = source.network.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(each, expected[name]) for name, each in state.items())
    assert (loaded.config.window, loaded.config.num_window_layers) == (3, 2)


@pytest.mark.parametrize("left_out", ["tokenizer.", LOCAL_POSITIONS, "tokenizer.blocks.1."])
def test_weights_without_the_tokenizer_are_refused(left_out, weights, windowed_config, file_with):
    file = file_with({name: each for name, each in weights.items() if not name.startswith(left_out)})
    with pytest.raises(ValueError, match=rf"weights of a features network: missing {left_out}"):
        source_from_checkpoint(Task.FEATURES, file, windowed_config)


def test_a_damaged_tokenizer_is_not_taken_for_patches(weights, file_with):
    file = file_with({name: each for name, each in weights.items() if name != LOCAL_POSITIONS})
    with pytest.raises(ValueError, match=f"got others: '{LOCAL_POSITIONS}'"):
        source_from_checkpoint(Task.FEATURES, file, None)


def test_weights_with_a_tokenizer_do_not_fit_a_network_of_patches(weights, sapiens2_config, file_with):
    config = replace(sapiens2_config("features"), num_hidden_layers=2)
    with pytest.raises(ValueError, match="unknown tokenizer"):
        source_from_checkpoint(Task.FEATURES, file_with(weights), config)


def test_a_description_may_have_a_window(windowed_config, tmp_path):
    path = tmp_path / "NET.json"
    path.write_text(json.dumps(asdict(windowed_config)))
    assert read_network(path, "features") == windowed_config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 1}, "both more for features, got 1 and 2 for features"),
        ({"num_window_layers": 0}, "got 3 and 0 for features"),
        ({"num_window_layers": -1}, "got 3 and -1 for features"),
        ({"window": 0}, "must be positive, got {'window': 0}"),
        ({"input_hw": (192, 160)}, r"multiples of 48 up to 8192, got \(192, 160\)"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message, windowed_config):
    with pytest.raises(ValueError, match=message):
        replace(windowed_config, **changes)


def test_tokens_of_tasks_with_heads_are_patches(sapiens2_config):
    with pytest.raises(ValueError, match="got 2 and 1 for seg"):
        replace(sapiens2_config("seg"), input_hw=(64, 64), window=2, num_window_layers=1)


def served_network(source, precision="float32"):
    own = source.config.recipe
    normalization = own.preparation("full").normalization
    return ServedNetwork(source.network, normalization, own, precision=precision).eval()


@pytest.fixture(scope="module")
def expected(source):
    config = source.config
    engine = engine_from_network(served_network(source))
    return reference(config.recipe, engine, config.input_hw, config.output_hw)


@pytest.mark.parametrize("runtime", ["torchscript", "onnx"])
def test_an_engine_is_as_close_as_promised(runtime, source, expected, tmp_path):
    info = model_info(source.config, EngineOptions(runtime=runtime), is_trained=False)
    build_engine(served_network(source), source.config, tmp_path, info=info, max_batch_size=2)
    engine = engine_from_file(runtime, tmp_path / ENGINE_FILES[runtime], "cpu")
    allowed = limits(source.config.recipe, "float32", untrained=True)
    report = parity(engine, expected, allowed, max_batch_size=2)
    assert report.is_passed, str(report)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_other_precisions_are_as_close_as_untrained_networks_must_be(precision, source, expected):
    engine = engine_from_network(served_network(source, precision))
    allowed = limits(source.config.recipe, precision, untrained=True)
    report = parity(engine, expected, allowed, max_batch_size=2)
    assert report.is_passed, str(report)
