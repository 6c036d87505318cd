"""Engines of the second family in every runtime that can be built here, from tiny networks."""

from dataclasses import replace

import pytest

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens2 import SAPIENS2
from sapiens_core.recipes.tolerances import limits
from sapiens_export.engines.build import build_engine
from sapiens_export.engines.engine import engine_from_network
from sapiens_export.engines.load import engine_from_file
from sapiens_export.engines.reduced import ServedNetwork
from sapiens_export.exporter import EngineOptions, model_info
from sapiens_export.networks import sapiens2
from sapiens_export.parity.compare import parity
from sapiens_export.parity.reference import reference
from sapiens_export.weights.sources import source_from_seed

INPUT_HW = (192, 144)  # a pointmap's scale needs some cells
# What `python` engines are is the file of `torchscript`.
BUILDS = [(task, runtime) for task in SAPIENS2.recipes for runtime in ("torchscript", "onnx")]


@pytest.fixture(scope="module")
def sources(sapiens2_config):
    """Networks of one block, for PyTorch takes seconds for each to ONNX; that of pose has shared keys."""

    def source(task):
        return source_from_seed(replace(sapiens2_config(task), num_hidden_layers=1, input_hw=INPUT_HW), 0)

    made = {task: source(task) for task in SAPIENS2.recipes}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sapiens2, "NUM_FULL_LAYERS", 0)
        made[Task.POSE] = source(Task.POSE)
    keys = next(each for name, each in made[Task.POSE].network.named_parameters() if "k_proj.weight" in name)
    assert keys.shape == (24, 48)
    return made


@pytest.mark.parametrize(("task", "runtime"), BUILDS)
def test_an_engine_is_as_close_as_promised(task, runtime, sources, tmp_path):
    source = sources[task]
    config, own = source.config, source.config.recipe
    served = ServedNetwork(source.network, own.preparation("full").normalization, own).eval()
    expected = reference(own, engine_from_network(served), config.input_hw, config.output_hw)
    info = model_info(config, EngineOptions(runtime=runtime), is_trained=False)
    folder = tmp_path / "engine"
    folder.mkdir()
    build_engine(served, config, folder, info=info, max_batch_size=2)
    engine = engine_from_file(runtime, folder / ENGINE_FILES[runtime], "cpu")
    report = parity(engine, expected, limits(own, "float32", untrained=True), max_batch_size=2)
    assert report.is_passed, str(report)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("task", SAPIENS2.recipes)
def test_other_precisions_are_as_close_as_untrained_networks_must_be(task, precision, sources):
    source = sources[task]
    config, own = source.config, source.config.recipe
    normalization = own.preparation("full").normalization
    whole = engine_from_network(ServedNetwork(source.network, normalization, own).eval())
    expected = reference(own, whole, config.input_hw, config.output_hw)
    half = ServedNetwork(source.network, normalization, own, precision=precision).eval()
    allowed = limits(own, precision, untrained=True)
    report = parity(engine_from_network(half), expected, allowed, max_batch_size=2)
    assert report.is_passed, str(report)
