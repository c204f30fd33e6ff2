"""The compiled passes compute what the modules define, or leave it to them."""

import copy
import pickle
import struct

import pytest
import torch
from network import twins
from network.twins import pair, spec_of, trained_once
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from dtb_builder.network.built import passes_file
from dtb_builder.network.kernels import Library, can_be_compiled, find_library
from dtb_builder.network.kernels.library import LEVELS
from dtb_builder.network.network import Network
from dtb_builder.space import OPERATIONS, sample_uniform

# (channels, layers, image size): odd maps, partial vectors of channels, both kinds of cell alone.
SHAPES = [
    (4, 3, 12),
    (5, 2, 9),
    (8, 5, 13),
    (3, 6, 16),
    (6, 1, 16),
    (4, 4, 11),
    (12, 3, 8),
    (7, 5, 8),
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


@pytest.fixture(params=LEVELS)
def library(request: pytest.FixtureRequest) -> Library:
    found = find_library()
    if not isinstance(found, Library):
        pytest.skip("the package was installed without a C++ compiler")
    level = LEVELS.index(request.param)
    if level > found.level:
        pytest.skip(f"this processor has no {request.param}")
    file = passes_file()
    assert file is not None
    return Library(file, level)


def assert_close(compiled: list[Tensor], modules: list[Tensor], tolerance: float) -> None:
    # The modules alone, in the two memory layouts, differ by 7e-13 in a gradient that cancels.
    twins.assert_close(compiled, modules, tolerance, floor=1e-3)


def gradients_after(network: Network, batches: list[Tensor]) -> list[Tensor]:
    """Of a sum of the first batch's logits, when all batches have been through the network."""
    network.zero_grad()
    first, *_ = [network(batch) for batch in batches]
    first.sum().backward()
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


def assert_equal(one: list[Tensor], two: list[Tensor]) -> None:
    assert all(a.equal(b) for a, b in zip(one, two, strict=True))


def test_the_genotypes_of_these_tests_have_every_operation_in_every_stride() -> None:
    seen: set[tuple[str, bool]] = set()
    for index in range(len(SHAPES)):
        genotype = sample_uniform(seed=7, index=index)
        seen |= {(edge.operation, edge.predecessor < 2) for edge in genotype.reduce}
    assert seen == {(operation, strided) for operation in OPERATIONS for strided in (True, False)}


@pytest.mark.parametrize("index", range(len(SHAPES)))
def test_logits_and_gradients_in_float64_are_those_of_the_modules(
    index: int, library: Library
) -> None:
    channels, layers, size = SHAPES[index]
    modules, compiled = pair(spec_of(channels, layers, size), index, library)
    images = torch.randn(4, 3, size, size, dtype=torch.float64)
    for drop_path in (0.0, 0.3):
        expected = trained_once(modules.double(), images, drop_path)
        assert_close(trained_once(compiled.double(), images, drop_path), expected, 1e-12)
        for one, two in zip(compiled.buffers(), modules.buffers(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
        modules.zero_grad()
        compiled.zero_grad()


@pytest.mark.parametrize("index", [0, 3])
def test_the_auxiliary_head_sees_the_same_maps(index: int, library: Library) -> None:
    modules, compiled = pair(spec_of(2, 3, 32, auxiliary=True), index, library)
    images = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    expected = trained_once(modules.double(), images, 0.2)
    assert_close(trained_once(compiled.double(), images, 0.2), expected, 1e-12)


def test_a_network_whose_auxiliary_cell_is_its_last_has_one_output_for_both(
    library: Library,
) -> None:
    modules, compiled = pair(spec_of(4, 1, 16, auxiliary=True), 1, library)
    images = torch.randn(8, 3, 16, 16, dtype=torch.float64)
    expected = trained_once(modules.double(), images, 0.0)
    assert_close(trained_once(compiled.double(), images, 0.0), expected, 1e-12)


@pytest.mark.parametrize("index", range(4))
def test_logits_in_float32_are_those_of_the_modules(index: int, library: Library) -> None:
    modules, compiled = pair(spec_of(8, 5, 16), index, library)
    images = torch.randn(8, 3, 16, 16)
    assert_close([compiled(images).detach()], [modules(images).detach()], 5e-5)


def test_a_network_with_passes_evaluates_by_its_modules(library: Library) -> None:
    modules, compiled = pair(spec_of(8, 5, 16), 0, library)
    images = torch.randn(8, 3, 16, 16)
    with torch.no_grad():
        assert compiled.eval()(images).equal(modules.eval()(images))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [4, 5, 16])
def test_of_equal_pixels_the_first_is_the_maximum(
    channels: int, stride: int, library: Library
) -> None:
    maps = torch.randint(0, 3, (2, 7, 6, channels)).double()
    nchw = maps.permute(0, 3, 1, 2).requires_grad_()
    expected = max_pool2d(nchw, 3, stride, padding=1)
    out = torch.empty(2, 7 // stride + 7 % stride, 6 // stride, channels, dtype=torch.float64)
    which = torch.empty(out.shape, dtype=torch.uint8)
    gradient, back = torch.randn_like(out), torch.empty_like(maps)
    shape = {"N": 2, "H": 7, "W": 6, "C": channels, "s": stride, "which": which}
    library.run("pool_forward", out.dtype, x=maps, x_stride=channels, **shape, y=out)
    gradients = {"g": gradient, "g_stride": channels, "weights": None}
    to = {"x_gradient": back, "x_gradient_stride": channels, "add": False}
    library.run("pool_backward", out.dtype, **gradients, **shape, **to)
    (wanted,) = torch.autograd.grad(expected, nchw, gradient.permute(0, 3, 1, 2))
    assert out.permute(0, 3, 1, 2).equal(expected)
    torch.testing.assert_close(back.permute(0, 3, 1, 2), wanted, rtol=1e-14, atol=1e-14)


def test_a_pass_with_an_argument_missing_or_too_many_is_not_called(library: Library) -> None:
    maps = torch.zeros(8)
    copied = {"x": maps, "x_stride": 4, "scale": None, "shift": None, "weights": None, "C": 4}
    copied |= {"N": 1, "pixels": 2, "out": maps, "out_stride": 4}
    with pytest.raises(TypeError, match=r"copy takes C, x, x_stride, .*; got x, x_stride, "):
        library.run("copy", maps.dtype, **copied)
    with pytest.raises(KeyError, match="add"):
        library.run("copy", maps.dtype, **copied, ad=0)
    with pytest.raises(struct.error, match="not an integer"):
        library.run("copy", maps.dtype, **copied, add=0.5)


def test_what_is_not_a_number_stays_so(library: Library) -> None:
    _, compiled = pair(spec_of(4, 3, 8), 2, library)
    images = torch.randn(2, 3, 8, 8)
    images[0, 0, 3, 3] = torch.nan
    assert compiled(images).isnan().all()


def test_the_same_bits_come_again(library: Library) -> None:
    _, compiled = pair(spec_of(8, 5, 12), 1, library)
    images = torch.randn(4, 3, 12, 12)
    one = trained_once(compiled, images, 0.2)
    compiled.zero_grad()
    two = trained_once(compiled, images, 0.2)
    assert all(a.equal(b) for a, b in zip(one, two, strict=True))


def test_a_second_forward_pass_does_not_disturb_the_first(library: Library) -> None:
    _, compiled = pair(spec_of(4, 3, 8), 1, library)
    images, others = torch.randn(2, 4, 3, 8, 8).unbind()
    expected = gradients_after(compiled, [images])
    assert_equal(gradients_after(compiled, [images, others]), expected)


def test_passes_are_repeated_only_after_a_backward_pass_and_for_maps_of_the_same_shape(
    library: Library,
) -> None:
    _, compiled = pair(spec_of(4, 3, 8), 1, library)
    batches = torch.randn(4, 4, 3, 8, 8).unbind()
    expected = [gradients_after(compiled, [batch]) for batch in batches]
    with compiled.repeating_passes():
        assert_equal(gradients_after(compiled, [batches[0]]), expected[0])
        assert_equal(gradients_after(compiled, [batches[1], batches[2]]), expected[1])
        assert_equal(gradients_after(compiled, [batches[3]]), expected[3])
        few = gradients_after(compiled, [batches[0][:2]])
    assert_equal(few, gradients_after(compiled, [batches[0][:2]]))


def test_a_parameter_changed_between_forward_and_backward_is_an_error(library: Library) -> None:
    _, compiled = pair(spec_of(4, 3, 8), 1, library)
    logits = compiled(torch.randn(2, 3, 8, 8))
    with torch.no_grad():
        compiled.get_parameter("cells.0.preprocess0.op.1.weight").mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        logits.sum().backward()


def test_hooks_see_every_module_because_hooked_cells_are_not_compiled(library: Library) -> None:
    _, compiled = pair(spec_of(4, 3, 8), 1, library)
    seen: list[nn.Module] = []
    relu = next(m for m in compiled.cells.modules() if isinstance(m, nn.ReLU))
    handle = relu.register_forward_hook(lambda module, _inputs, _output: seen.append(module))
    compiled(torch.randn(2, 3, 8, 8))
    assert seen == [relu]
    handle.remove()
    assert can_be_compiled(library, compiled.cells, torch.zeros(1))


def test_cells_that_do_not_stand_as_they_were_built_are_not_compiled(library: Library) -> None:
    cells = spec_of(4, 3, 8).build(sample_uniform(seed=0, index=0)).cells
    maps = torch.zeros(1)
    assert can_be_compiled(library, cells, maps)
    assert not can_be_compiled(library, cells, maps.bfloat16())
    assert not can_be_compiled(library, cells, maps.double())
    assert not can_be_compiled(library, cells, maps.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_be_compiled(library, cells, maps)
    norm = next(m for m in cells.modules() if isinstance(m, nn.BatchNorm2d))
    norm.eval()
    assert not can_be_compiled(library, cells, maps)
    cells.eval()
    assert not can_be_compiled(library, cells, maps)


def test_a_compiled_network_can_be_copied_and_pickled(library: Library) -> None:
    _, compiled = pair(spec_of(4, 3, 8), 1, library)
    images = torch.randn(2, 3, 8, 8)
    again = pickle.loads(pickle.dumps(copy.deepcopy(compiled)))
    with torch.no_grad():
        assert again(images).equal(compiled(images))
