"""NVIDIA's own compiler takes passes.cu, for every kind of GPU; it needs no GPU for that."""

import ctypes
from importlib import metadata
from pathlib import Path

import pytest
import torch

from dtb_builder.network.kernels import nvrtc

KERNELS = [
    "norm_sums",
    "pointwise_weight",
    "pointwise_forward_16",
    "depthwise_backward_522",
    "join",
]


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The compiler of NVIDIA's wheel in the place of the one that comes with torch for CUDA."""
    try:
        files = metadata.files("nvidia-cuda-nvrtc") or []
    except metadata.PackageNotFoundError:
        pytest.skip("needs the package nvidia-cuda-nvrtc")
    paths = {file.name.partition(".so")[0]: str(file.locate()) for file in files}
    ctypes.CDLL(paths["libnvrtc-builtins"])  # it is opened by name where it is not loaded yet
    toolkit = ctypes.CDLL(paths["libnvrtc"])
    monkeypatch.setattr(nvrtc, "_toolkit", lambda: toolkit)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


# From Turing, the oldest that CUDA 13 compiles for, to Blackwell.
@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [
        ("sm_75", torch.float32),
        ("sm_90", torch.bfloat16),
        ("sm_120", torch.float64),
    ],
)
@pytest.mark.usefixtures("compiler")
def test_passes_compile_for_a_gpu(architecture: str, dtype: torch.dtype) -> None:
    binary = nvrtc.compiled.__wrapped__(architecture, dtype)
    assert binary.startswith(b"\x7fELF")
    assert [name for name in KERNELS if f".text.{name}\0".encode() not in binary] == []


@pytest.mark.usefixtures("compiler")
def test_what_does_not_compile_is_reported_in_the_compilers_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(nvrtc._OPTIONS, torch.float32, (b"-DELEMENT=no_such_type",))
    with pytest.raises(RuntimeError, match=r"passes\.cu for sm_90: .*\n?.*no_such_type"):
        nvrtc.compiled.__wrapped__("sm_90", torch.float32)


@pytest.mark.usefixtures("compiler")
def test_a_second_process_finds_what_the_first_has_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = iter((b"one", b"two", b"three"))
    monkeypatch.setattr(nvrtc, "_compile", lambda *_: next(made))
    wanted = [("sm_90", torch.float32), ("sm_90", torch.float64), ("sm_80", torch.float32)]
    first = [nvrtc.compiled.__wrapped__(*one) for one in wanted]
    assert first == [b"one", b"two", b"three"]
    assert [nvrtc.compiled.__wrapped__(*one) for one in wanted] == first


@pytest.mark.usefixtures("compiler")
def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"passes\.cu for sm_1: .*gpu-architecture"):
        nvrtc.compiled.__wrapped__("sm_1", torch.float32)
