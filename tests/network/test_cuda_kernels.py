"""The passes for a GPU compute what the modules define; without a GPU they are emulated."""

import copy
import dataclasses
import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from emulation import EmulatedKernels, can_emulate
from network.twins import assert_close, pair, spec_of, trained_once
from recipes import RECIPES
from torch import Tensor, nn
from training.in_turns import alone_and_together

from dtb_builder.images import Images, Split
from dtb_builder.network import NetworkSpec
from dtb_builder.network.cell import DropPath
from dtb_builder.network.comparison import BOUNDS, differences_from_modules
from dtb_builder.network.kernels import CudaLibrary, can_be_compiled, cells, find_library
from dtb_builder.network.kernels.maps import Maps, Term
from dtb_builder.network.kernels.passes import NetworkPasses
from dtb_builder.network.operations import MatrixConvolution
from dtb_builder.space import OPERATIONS, sample_uniform
from dtb_builder.training.resident import make_resident

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
    if not can_emulate():
        pytest.skip("there is no g++ to compile the emulation with")
    folder = tmp_path_factory.mktemp("emulation")
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


@pytest.mark.parametrize("name", ["copy", "pool_backward"])
def test_the_pass_that_writes_a_gradient_gathers_the_sums_that_norm_sums_would(
    name: str, emulated: CudaLibrary
) -> None:
    channels = 68  # more than a block has
    maps, gradient, *ys = torch.randn(4, 2, 5, 5, channels)
    mean = torch.randn(channels, 1, dtype=torch.float64)
    wanted: list[list[dict[str, Any]]] = []
    for _ in range(2):
        norms: list[dict[str, Any]] = []
        for y, weights in zip(ys, (None, torch.tensor([0.0, 1.5])), strict=True):
            g_sums, gx_sums = emulated.sums(channels, 50, maps)
            norm = {"y": y, "y_stride": channels, "weights": weights, "mean": mean}
            norms.append({**norm, "g_sums": g_sums, "gx_sums": gx_sums})
        wanted.append(norms)
    shape = {"C": channels, "N": 2, "H": 5, "W": 5, "pixels": 25, "s": 1}
    to = {"x_gradient": gradient, "x_gradient_stride": channels, "out": gradient}
    to |= {"out_stride": channels, "add": True, "norms": wanted[0]}
    source = {"g": maps, "g_stride": channels, "x": maps, "x_stride": channels}
    plain = {"weights": None, "which": None, "scale": None, "shift": None}
    emulated.run(name, maps.dtype, **source, **plain, **shape, **to)
    for norm in wanted[1]:
        norm |= {"g": gradient, "g_stride": channels}
    emulated.run("norm_sums", maps.dtype, norms=wanted[1], **shape)
    for one, two in zip(*wanted, strict=True):
        assert one["g_sums"].equal(two["g_sums"])
        assert one["gx_sums"].equal(two["gx_sums"])
    torch.testing.assert_close(wanted[1][0]["g_sums"].sum(1), gradient.double().sum((0, 1, 2)))


def test_the_pass_that_writes_a_gradient_last_gathers_the_sums_of_its_batch_norms(
    emulated: CudaLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[str] = []
    launch, edge = EmulatedKernels.launch, NetworkPasses.edge

    def noted(self: EmulatedKernels, name: str, *rest: Any) -> None:
        launched.append(name)
        launch(self, name, *rest)

    def never_last(self: NetworkPasses, operation: nn.Module, maps: Maps, path: DropPath) -> Term:
        maps.num_readers += 1
        return edge(self, operation, maps, path)

    monkeypatch.setattr(EmulatedKernels, "launch", noted)
    images = torch.ones(2, 3, 8, 8, dtype=torch.float64)
    found: list[tuple[int, list[Tensor]]] = []
    for function in (never_last, edge):
        monkeypatch.setattr(NetworkPasses, "edge", function)
        launched.clear()
        _, compiled = pair(spec_of(4, 1, 8), 3, emulated, torch.float64)
        gradients = trained_once(compiled, images, 0.3)
        found.append((launched.count("norm_sums"), gradients))
    assert [num_launched for num_launched, _ in found] == [5, 1]
    assert_close(found[1][1], found[0][1], 1e-12)


def test_runs_that_take_turns_have_the_bits_that_each_has_alone(
    emulated: CudaLibrary, images: Images
) -> None:
    data = make_resident(images, Split(train=np.arange(4), valid=np.arange(50, 60)), "cpu")
    recipe = dataclasses.replace(
        RECIPES["darts"], num_epochs=1, batch_size=2, auxiliary_weight=0.0, drop_path_ramp=False
    )
    alone, in_turns = alone_and_together(emulated, data, recipe, [0, 8])
    assert in_turns == alone


def test_maps_are_rounded_to_bfloat16_as_torch_rounds_them(emulated: CudaLibrary) -> None:
    maps = torch.randn(256, 4).bfloat16()
    maps[0, 0], maps[1, 1] = torch.nan, torch.inf
    weights = torch.randn(256)
    weights[2:9] = 1 + 2.0 ** -torch.arange(7, 14)  # halfway between two, or nearly
    maps[2:9] = 1
    out = torch.empty_like(maps)
    shape = {"C": 4, "N": 256, "pixels": 1, "x_stride": 4, "out_stride": 4}
    emulated.storing_bfloat16().run(
        "copy", maps.dtype, x=maps, scale=None, shift=None, weights=weights, out=out, add=0, **shape
    )
    torch.testing.assert_close(
        out, (maps.float() * weights[:, None]).bfloat16(), rtol=0, atol=0, equal_nan=True
    )


def test_maps_in_bfloat16_move_a_training_less_than_torchs_own_autocast(
    emulated: CudaLibrary,
) -> None:
    modules, compiled = pair(spec_of(4, 2, 8), 3, emulated.storing_bfloat16())
    images = torch.randn(8, 3, 8, 8)
    exact, stored = (
        trained_once(copy.deepcopy(modules), images, 0.3),
        trained_once(compiled, images, 0.3),
    )
    with torch.autocast("cpu", torch.bfloat16):
        rounded = trained_once(modules, images, 0.3)

    def distance(found: list[Tensor], parts: slice) -> float:
        one, two = (torch.cat([t.flatten().float() for t in ts[parts]]) for ts in (found, exact))
        return float((one - two).norm() / two.norm())

    for parts in (slice(0, 1), slice(1, None)):
        assert 0 < distance(stored, parts) < distance(rounded, parts) < 0.1


def test_a_network_whose_maps_must_be_in_bfloat16_does_not_go_back_to_its_modules(
    emulated: CudaLibrary,
) -> None:
    _, compiled = pair(spec_of(4, 1, 8), 0, emulated.storing_bfloat16())
    compiled.cells.register_forward_hook(lambda *_: None)
    with pytest.raises(RuntimeError, match="stored in bfloat16 by the compiled passes alone"):
        compiled(torch.randn(2, 3, 8, 8))


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
