"""What a package is compiled for, told in it and compared with the machine at hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sapiens_core.triton.package import Target

HERE = Target.here(torch.device("cpu"))


def test_a_target_is_told_in_metadata_and_fits_the_machine_that_it_is_for():
    assert Target.from_metadata(HERE.to_metadata() | {"AOTI_DEVICE_KEY": "cpu"}) == HERE
    assert HERE.misfits(HERE) == []
    assert HERE.torch_release == ".".join(torch.__version__.split(".")[:2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"torch_release": "2.5"}, "torch release 2.5, not "),
        ({"device": "cuda", "compute_capability": "9.0"}, "device cuda, not cpu"),
        ({"compute_capability": "9.0"}, "compute capability 9.0, not "),
        ({"machine": "riscv64"}, "machine riscv64, not "),
        ({"cpu_features": ("avx512_fp32", "sse")}, "the instructions avx512_fp32"),
    ],
)
def test_what_a_machine_lacks_is_named(change, words):
    present = replace(HERE, cpu_features=("avx2", "sse"))
    assert replace(HERE, **change).misfits(present)[0].startswith(words)


def test_a_machine_may_have_more_than_is_needed():
    few, many = (replace(HERE, cpu_features=names) for names in (("avx2",), ("avx2", "avx512f")))
    assert few.misfits(many) == []
    assert many.misfits(few) == ["the instructions avx512f"]


@pytest.mark.parametrize("metadata", [{}, {"sapiens_target": "{}"}, {"sapiens_target": "no JSON"}])
def test_a_package_of_somebody_else_s_is_refused(metadata):
    with pytest.raises(ValueError, match=r"must tell what it is compiled for.*--runtime aoti"):
        Target.from_metadata(metadata)
