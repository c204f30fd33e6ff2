"""A GPU's compiled passes are compared with the modules once, and not used where they differ."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dtb_builder.errors import ConfigError
from dtb_builder.network.built import passes_file
from dtb_builder.network.kernels import Library
from dtb_builder.stages.generation import kernels_check
from dtb_builder.stages.generation.kernels_check import check_kernels, check_once
from dtb_builder.training import ComputeConfig

pytestmark = pytest.mark.skipif(passes_file() is None, reason="installed without a C++ compiler")


class WrongLibrary(Library):
    """Passes of which one does nothing."""

    def __init__(self, path: Path, wrong: str) -> None:
        super().__init__(path)
        self.wrong = wrong

    def prepared(self, name: str, *arguments: object, **named: object) -> Callable[[], None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if name == self.wrong:
            return lambda: None
        return super().prepared(name, *arguments, **named)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def path() -> Path:
    file = passes_file()
    assert file is not None
    return file


def test_passes_are_compared_once_per_device_and_driver(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[Library] = []
    compare = kernels_check.differences_from_modules
    monkeypatch.setattr(
        kernels_check,
        "differences_from_modules",
        lambda library: compared.append(library) or compare(library),
    )
    folder = tmp_path / "kernels"
    for device in ("a GPU, driver 1", "a GPU, driver 1", "a GPU, driver 2"):
        check_once(Library(path), device, folder)
    assert len(compared) == len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("wrong", ["copy", "pool_backward"])
def test_passes_that_differ_stop_with_the_setting_to_use(
    wrong: str, path: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"on a GPU, .*plan with compute\.kernels=off"):
            check_once(WrongLibrary(path, wrong), "a GPU", tmp_path / "kernels")
    assert not (tmp_path / "kernels").exists()


def test_a_gpu_is_asked_by_every_process_that_trains_on_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels_check, "library_of", lambda *_: WrongLibrary(path, "join"))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    on_gpu = ComputeConfig(device="cuda", threads=1, deterministic=True, kernels="on")
    with pytest.raises(ConfigError, match="not to be trusted on a GPU"):
        check_kernels(on_gpu, "float32", tmp_path / "kernels")
    on_cpu = ComputeConfig(device="cpu", threads=1, deterministic=True, kernels="on")
    check_kernels(on_cpu, "float32", tmp_path / "kernels")
