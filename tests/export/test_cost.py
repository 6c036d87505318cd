import pytest
import torch
from torch import nn
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from sapiens_core.recipes.lookup import first_recipes
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import NORMALIZATIONS
from sapiens_export.engines.cost import activation_bytes, network_cost
from sapiens_export.engines.reduced import ServedNetwork
from sapiens_export.networks.config import NetworkConfig, released_network
from sapiens_export.networks.sapiens import SapiensNetwork

# Counted on the reference classes: parameters of the encoder, with a class token and without a head for the
# features, of the heads in millions, and multiply-accumulates of one image in units of 1e12.
ENCODERS = {"0.3b": 306_244_608, "0.6b": 634_597_120, "1b": 1_139_163_648, "2b": 2_131_943_040}
PRETRAINED = {"0.3b": 307_295_232, "0.6b": 635_910_400, "1b": 1_140_739_584, "2b": 2_133_912_960}
HEADS = {
    ("pose", 17): {"0.3b": 23.21, "0.6b": 26.36, "1b": 29.51, "2b": 34.22},
    ("pose", 308): {"0.3b": 23.44, "0.6b": 26.58, "1b": 29.73, "2b": 34.45},
    ("seg", 28): {"0.3b": 33.25, "0.6b": 36.40, "1b": 39.54, "2b": 44.26},
    ("depth", 1): {"0.3b": 13.67, "0.6b": 15.24, "1b": 16.81, "2b": 19.17},
    ("normal", 3): {"0.3b": 33.23, "0.6b": 36.38, "1b": 39.52, "2b": 44.24},
}
TERAMACS = {
    ("pose", 17): {"0.3b": 1.607, "0.6b": 2.932, "1b": 4.875, "2b": 8.514},
    ("pose", 308): {"0.3b": 1.618, "0.6b": 2.943, "1b": 4.886, "2b": 8.525},
    ("seg", 28): {"0.3b": 2.365, "0.6b": 3.689, "1b": 5.632, "2b": 9.271},
    ("depth", 1): {"0.3b": 2.254, "0.6b": 3.574, "1b": 5.512, "2b": 9.144},
    ("normal", 3): {"0.3b": 2.361, "0.6b": 3.685, "1b": 5.628, "2b": 9.268},
}
PRETRAINED_TERAMACS = {"0.3b": 2.066, "0.6b": 3.957, "1b": 6.707, "2b": 11.799}
SMALL = {
    "depth": NetworkConfig("sapiens", Task.DEPTH, 64, 2, 2, 0, (256, 192), 16, 1),
    "pose": NetworkConfig("sapiens", Task.POSE, 64, 2, 2, 2, (256, 192), 16, 17),
    "features": NetworkConfig("sapiens", Task.FEATURES, 64, 2, 2, 0, (256, 192), 0, 64),
}


def released(task, num_outputs, size):
    variants = first_recipes()[Task(task)].variants
    variant = next(variant for variant in variants if variant.num_outputs == num_outputs)
    return released_network(Task(task), size, variant=variant)


@pytest.mark.parametrize("size", ENCODERS)
@pytest.mark.parametrize(("task", "num_outputs"), HEADS)
def test_released_networks_cost_what_was_counted_on_the_reference(task, num_outputs, size):
    cost = network_cost(released(task, num_outputs, size))
    assert round((cost.num_parameters - ENCODERS[size]) / 1e6, 2) == HEADS[task, num_outputs][size]
    assert round(cost.macs / 1e12, 3) == TERAMACS[task, num_outputs][size]
    assert cost.weight_bytes == 4 * cost.num_parameters


@pytest.mark.parametrize("size", PRETRAINED)
def test_pretrained_encoders_cost_what_was_counted_on_the_reference(size):
    cost = network_cost(released("features", 0, size), precision="bfloat16")
    assert (cost.num_parameters, cost.weight_bytes) == (PRETRAINED[size], 2 * PRETRAINED[size])
    assert round(cost.macs / 1e12, 3) == PRETRAINED_TERAMACS[size]


def test_a_batch_costs_its_images_and_the_weights_once():
    one, four = (network_cost(SMALL["depth"], batch_size=size) for size in (1, 4))
    assert (four.macs, four.activation_bytes) == (4 * one.macs, 4 * one.activation_bytes)
    assert four.weight_bytes == one.weight_bytes == 4 * one.num_parameters


class Toy(nn.Module):
    def forward(self, images):
        widened = torch.cat([images, images])  # 10 + 20 floats
        view = widened.view(4, 5).t()  # no more
        doubled = view * 2  # 10 + 20 + 20
        del widened, view  # 10 + 20
        return doubled[:, :2] + 1  # 10 + 20 + 10


def test_the_peak_of_a_toy_is_what_a_pencil_finds():
    assert activation_bytes(Toy(), torch.empty(10, device="meta")) == 4 * (10 + 20 + 20)


def test_weights_and_their_views_are_no_activations():
    layer = nn.Linear(8, 8).to("meta")
    assert activation_bytes(layer, torch.empty(1, 8, device="meta")) == 4 * (8 + 8)


def measured_bytes(module, inputs):
    """Return the peak of what torch's CPU allocator gave out, kernels' workspaces included."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        module(inputs)
    events = profiler.profiler.kineto_results.experimental_event_tree()
    allocations = []
    while events:
        event = events.pop()
        events.extend(event.children)
        if event.tag == _EventType.Allocation:
            allocations.append((event.start_time_ns, event.extra_fields.alloc_size))
    live = peak = inputs.nbytes
    for _, size in sorted(allocations, key=lambda allocation: allocation[0]):
        live += size
        peak = max(peak, live)
    return peak


@pytest.fixture
def one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # each thread has workspaces of its own
    yield
    torch.set_num_threads(num_threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("name", "most_workspace"), [("features", 0), ("pose", 0.7), ("depth", 0.7)])
def test_the_peak_is_close_to_what_the_allocator_gives_out(name, most_workspace):
    config = SMALL[name]
    served = ServedNetwork(SapiensNetwork(config), NORMALIZATIONS["full"], config.recipe).eval()
    pixels = torch.zeros(2, *config.input_hw, 3, dtype=torch.uint8)
    counted, measured = network_cost(config, batch_size=2).activation_bytes, measured_bytes(served, pixels)
    assert counted <= measured <= (1 + most_workspace) * counted


def test_half_the_bytes_per_number_halve_what_the_network_holds():
    config = released("depth", 1, "0.3b")
    full, half = (network_cost(config, precision=precision) for precision in ("float32", "bfloat16"))
    last_layer = 2 * (384 + 1)  # which stays in float32, and so does what it takes
    assert (half.weight_bytes - last_layer) * 2 == full.weight_bytes
    assert 0.7 < half.activation_bytes / full.activation_bytes < 0.8


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        network_cost(SMALL["depth"], batch_size=0)
