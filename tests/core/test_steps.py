from itertools import chain

import pytest

from sapiens_core.contract.steps import StepSpec, step_maps
from sapiens_core.contract.tensors import IMAGE_HW, TensorSpec
from sapiens_core.recipes.combined import HUMAN_TASKS
from sapiens_core.recipes.lookup import first_recipe, first_recipes

HUMAN_SPECS = [first_recipe(task) for task in HUMAN_TASKS]
ENSEMBLES = {
    **{
        spec.name: ([spec.preprocess, spec.engine, *filter(None, [spec.postprocess])], spec.outputs)
        for spec in first_recipes().values()
    },
    **{spec.raw_name: ([spec.preprocess, spec.engine], spec.raw_outputs) for spec in HUMAN_SPECS},
    "human": (
        [
            HUMAN_SPECS[0].preprocess,
            *(spec.engine for spec in HUMAN_SPECS),
            *filter(None, (spec.postprocess for spec in HUMAN_SPECS)),
        ],
        [*(spec.outputs[0] for spec in HUMAN_SPECS), IMAGE_HW],
    ),
}


@pytest.mark.parametrize(("steps", "outputs"), ENSEMBLES.values(), ids=ENSEMBLES.keys())
def test_what_an_ensemble_returns_feeds_no_step(steps, outputs):
    maps = [*step_maps(steps, outputs)]
    fed = {*chain.from_iterable(each.inputs.values() for each in maps)}
    returned = [*chain.from_iterable(each.outputs.values() for each in maps)]
    assert fed.isdisjoint(tensor.name for tensor in outputs)
    assert {tensor.name for tensor in outputs} <= {*returned}
    assert len({*returned}) == len(returned)


def test_what_a_later_step_hands_on_has_another_name_before():
    spec = first_recipes()["pose"]
    _, engine, postprocess = step_maps([spec.preprocess, spec.engine, spec.postprocess], spec.outputs)
    assert engine.outputs["scores"] == postprocess.inputs["scores"] == "pose_engine_scores"
    assert postprocess.outputs["scores"] == "scores"


def test_what_a_later_step_returns_too_is_left_out_where_nobody_takes_it():
    image, pixels, size = (TensorSpec(name, "UINT8", (1,)) for name in ("image", "pixels", "size"))
    steps = [
        StepSpec("first", "image", inputs=(image,), outputs=(pixels, size)),
        StepSpec("engine", "engine", inputs=(pixels,), outputs=()),
        StepSpec("second", "image", inputs=(image,), outputs=(pixels, size)),
        StepSpec("other", "engine", inputs=(pixels,), outputs=()),
    ]
    first, engine, second, other = step_maps(steps, [size])
    assert first.outputs == {"pixels": "first_pixels"}
    assert engine.inputs == {"pixels": "first_pixels"}
    assert second.outputs == {"pixels": "pixels", "size": "size"}
    assert other.inputs == {"pixels": "pixels"}
