"""The passes for a GPU compute what the modules define; without a GPU they are emulated."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from emulation import EmulatedKernels, compile_emulation
from network.twins import assert_close, pair, spec_of, trained_once
from torch import Tensor, nn

from dtb_builder.network import NetworkSpec
from dtb_builder.network.comparison import BOUNDS, differences_from_modules
from dtb_builder.network.kernels import CudaLibrary, can_be_compiled, cells, find_library
from dtb_builder.network.operations import MatrixConvolution
from dtb_builder.space import OPERATIONS, sample_uniform

on_gpu = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
)
# (genotype, channels, layers, image size): odd maps, channels that do not fill a tile.
SMALL = [(0, 4, 2, 9), (3, 12, 2, 8), (8, 4, 3, 8)]
LARGE = [
    *SMALL,
    (1, 8, 5, 13),
    (2, 36, 4, 11),
    (4, 20, 3, 8),
    (5, 72, 2, 16),
    (6, 16, 8, 32),
    (7, 32, 8, 32),
]


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> CudaLibrary:
    folder = tmp_path_factory.mktemp("emulation")
    if not compile_emulation(folder):
        pytest.skip("there is no g++ to compile the emulation with")
    return CudaLibrary(EmulatedKernels(folder), device_type="cpu")


@pytest.fixture
def library() -> CudaLibrary:
    """Of the GPU."""
    found = find_library("cuda")
    assert isinstance(found, CudaLibrary)
    return found


def check(index: int, spec: NetworkSpec, library: CudaLibrary, drop_path: float) -> None:
    modules, compiled = pair(spec, index, library, torch.float64)
    size = spec.image_size
    images = torch.randn(8, 3, size, size, dtype=torch.float64, device=library.device_type)
    assert can_be_compiled(library, compiled.cells, modules.stem[0](images))
    found, expected = (
        [*trained_once(network, images, drop_path), *network.buffers()]
        for network in (compiled, modules)
    )
    assert_close(found, expected, 1e-12)


@pytest.mark.parametrize("shapes", [SMALL, LARGE])
def test_the_genotypes_of_these_tests_have_every_operation_in_every_stride(
    shapes: list[tuple[int, int, int, int]],
) -> None:
    seen: set[tuple[str, bool]] = set()
    for index, *_ in shapes:
        genotype = sample_uniform(seed=7, index=index)
        seen |= {(edge.operation, edge.predecessor < 2) for edge in genotype.reduce}
    assert seen == {(operation, strided) for operation in OPERATIONS for strided in (True, False)}


@pytest.mark.parametrize(("index", "channels", "layers", "size"), SMALL)
def test_emulated_logits_and_gradients_in_float64_are_those_of_the_modules(
    index: int, channels: int, layers: int, size: int, emulated: CudaLibrary
) -> None:
    check(index, spec_of(channels, layers, size), emulated, 0.3)


def test_the_emulated_auxiliary_head_sees_the_same_maps(emulated: CudaLibrary) -> None:
    check(1, spec_of(4, 1, 16, auxiliary=True), emulated, 0.2)


def test_emulated_logits_in_float32_are_those_of_the_modules(emulated: CudaLibrary) -> None:
    modules, compiled = pair(spec_of(8, 2, 8), 2, emulated)
    images = torch.randn(4, 3, 8, 8)
    assert_close([compiled(images).detach()], [modules(images).detach()], 5e-5)


def test_emulated_passes_are_as_close_to_the_modules_as_a_new_device_must_be(
    emulated: CudaLibrary,
) -> None:
    found = differences_from_modules(emulated)
    assert all(found[name] < bound / 10 for name, bound in BOUNDS.items())


def test_what_is_not_a_number_stays_so(emulated: CudaLibrary) -> None:
    _, compiled = pair(spec_of(4, 2, 8), 8, emulated)
    images = torch.randn(2, 3, 8, 8)
    images[0, 0, 3, 3] = torch.nan
    assert compiled(images).isnan().all()


def test_a_pass_leaves_nothing_behind_that_only_a_collection_would_free(
    emulated: CudaLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a step could not be recorded: parameters would remember the stream of the one before."""
    _, compiled = pair(spec_of(4, 1, 8), 0, emulated)
    runs: list[weakref.ref[object]] = []
    begin = cells._Run.__init__

    def remembered(self: cells._Run, *arguments: object, **named: object) -> None:
        begin(self, *arguments, **named)  # pyright: ignore[reportArgumentType]
        runs.append(weakref.ref(self))

    monkeypatch.setattr(cells._Run, "__init__", remembered)
    gc.disable()
    try:
        compiled(torch.randn(2, 3, 8, 8)).sum().backward()
        assert [run() for run in runs] == [None]
    finally:
        gc.enable()


def test_gradients_of_more_parameters_than_a_launch_takes_are_all_added_up(
    emulated: CudaLibrary,
) -> None:
    library = emulated.new_step()
    shares = [torch.randn(1 + i % 9, 1 + i % 70) for i in range(130)]
    sums = [torch.full((one.shape[1],), torch.nan) for one in shares]
    library._shares += zip(shares, sums, strict=True)
    library.finish()
    for one, found in zip(shares, sums, strict=True):
        torch.testing.assert_close(found, one.sum(0))


def test_cells_that_the_passes_cannot_compute_are_left_to_the_modules(
    emulated: CudaLibrary,
) -> None:
    network = spec_of(4, 2, 8).build(sample_uniform(seed=0, index=0))
    maps = torch.zeros(2, 12, 8, 8)
    assert can_be_compiled(emulated, network.cells, maps)
    assert not can_be_compiled(emulated, network.cells, maps.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_be_compiled(emulated, network.cells, maps)
    odd = spec_of(6, 2, 8).build(sample_uniform(seed=0, index=0))
    assert not can_be_compiled(emulated, odd.cells, torch.zeros(2, 18, 8, 8))
    network.eval()
    with torch.no_grad():
        assert not can_be_compiled(emulated, network.cells, maps)


def test_without_a_gpu_there_are_no_passes_for_one() -> None:
    assert (find_library("cuda") is None) == (not torch.cuda.is_available())


@pytest.mark.parametrize(
    ("channels", "out", "kernel_size", "padding", "size"), [(3, 12, 3, 1, 7), (8, 16, 2, 0, 2)]
)
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=on_gpu)])
def test_a_convolution_as_a_matrix_product_is_the_convolution(
    channels: int, out: int, kernel_size: int, padding: int, size: int, device: str
) -> None:
    made = MatrixConvolution(channels, out, kernel_size, padding=padding, bias=False)
    convolution = made.double().to(device)
    maps = torch.randn(2, channels, size, size, dtype=torch.float64, device=device)
    maps.requires_grad_()
    results: list[list[Tensor]] = []
    for forward in (convolution, nn.Conv2d.forward.__get__(convolution)):
        logits = forward(maps)
        gradients = torch.autograd.grad(logits.square().sum(), [maps, convolution.weight])
        results.append([logits.detach(), *gradients])
    assert_close(results[0], results[1], 1e-12)


@pytest.mark.parametrize(
    ("index", "channels", "layers", "size"),
    [pytest.param(*shape, marks=on_gpu) for shape in LARGE],
)
@pytest.mark.parametrize("drop_path", [0.0, 0.3])
def test_logits_and_gradients_in_float64_are_those_of_the_modules(
    index: int, channels: int, layers: int, size: int, drop_path: float, library: CudaLibrary
) -> None:
    spec = spec_of(channels, layers, size, auxiliary=size == 32)
    check(index, spec, library, drop_path)


@pytest.mark.parametrize("index", [pytest.param(i, marks=on_gpu) for i in range(4)])
def test_logits_in_float32_are_those_of_the_modules(index: int, library: CudaLibrary) -> None:
    modules, compiled = pair(spec_of(16, 8, 32), index, library)
    images = torch.randn(96, 3, 32, 32, device="cuda")
    assert_close([compiled(images).detach()], [modules(images).detach()], 5e-5)


@pytest.mark.parametrize("index", [pytest.param(0, marks=on_gpu)])
def test_a_network_with_passes_evaluates_by_its_modules(index: int, library: CudaLibrary) -> None:
    modules, compiled = pair(spec_of(8, 5, 16), index, library)
    images = torch.randn(8, 3, 16, 16, device="cuda")
    with torch.no_grad():
        assert compiled.eval()(images).equal(modules.eval()(images))


@pytest.mark.parametrize("index", [pytest.param(0, marks=on_gpu)])
def test_the_same_bits_come_again(index: int, library: CudaLibrary) -> None:
    _, compiled = pair(spec_of(16, 8, 32), index, library)
    images = torch.randn(96, 3, 32, 32, device="cuda")
    gradients: list[list[Tensor]] = []
    for network in (compiled, copy.deepcopy(compiled)):
        trained_once(network, images, 0.2)
        gradients.append([p.grad for p in network.cells.parameters() if p.grad is not None])
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("index", [pytest.param(0, marks=on_gpu)])
def test_a_network_on_a_gpu_can_be_copied_and_pickled(index: int, library: CudaLibrary) -> None:
    _, compiled = pair(spec_of(4, 3, 8), index, library)
    images = torch.randn(2, 3, 8, 8, device="cuda")
    again = pickle.loads(pickle.dumps(copy.deepcopy(compiled)))
    with torch.no_grad():
        assert again(images).equal(compiled(images))
