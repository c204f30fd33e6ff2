"""A process is set up for reproducible bits, and says what it runs on."""

import os
import platform
import socket
from collections.abc import Iterator

import pytest
import torch

from dtb_builder.training import environment
from dtb_builder.training.setup import set_up_torch


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What set_up_torch sets; the number of threads is restored elsewhere."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(before)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


@pytest.mark.parametrize("deterministic", [False, True])
def test_torch_is_set_up_as_asked(deterministic: bool) -> None:
    set_up_torch(threads=2, deterministic=deterministic)
    assert torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == deterministic
    assert not torch.backends.cudnn.benchmark


def test_no_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        set_up_torch(threads=0, deterministic=True)


def test_the_environment_has_what_decides_the_bits_on_the_cpu() -> None:
    facts = environment("cpu")
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == 1
    assert {"cpu_capability", "device_name", "numpy", "python", "mkldnn"} <= set(facts)
    assert "cuda" not in facts
    assert {type(value) for value in facts.values()} == {str, int}


def test_the_environment_names_no_host() -> None:
    values = {str(value) for value in environment("cpu").values()}
    assert not values & {socket.gethostname(), platform.node(), os.environ.get("USER", "?")}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_environment_of_a_gpu_names_its_model() -> None:
    facts = environment("cuda")
    assert facts["device_name"] == torch.cuda.get_device_name()
    assert {"cuda", "cudnn"} <= set(facts)
