import pytest
import torch
from suite_zero import cells, column

from dtb_builder.tables.cell101 import Cell101
from dtb_builder.tables.network101 import Network101


def test_every_published_parameter_count_is_reproduced() -> None:
    counts = []
    for cell in cells():
        with torch.device("meta"):
            network = Network101(cell)
        counts.append(sum(parameter.numel() for parameter in network.parameters()))
    assert counts == [round(params * 1e6) for params in column("nb101_cells", "params")]


def test_vertices_on_no_path_from_input_to_output_are_left_out() -> None:
    # 1 has no way to the output, and none leads to 2.
    cell = Cell101(
        ((0, 1), (0, 3), (2, 4), (3, 4)),
        ("maxpool3x3", "conv1x1-bn-relu", "conv3x3-bn-relu"),
    )
    assert cell == Cell101(((0, 1), (1, 2)), ("conv3x3-bn-relu",))


def test_a_matrix_says_the_same_as_its_edges() -> None:
    matrix = [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    operations = ("conv1x1-bn-relu", "maxpool3x3")
    assert Cell101.from_matrix(matrix, operations) == Cell101(
        ((0, 1), (0, 2), (1, 2), (2, 3)), operations
    )


def test_the_vertices_that_the_output_reads_share_its_channels() -> None:
    # 1, 2 and 3 are read by the output; 4 only by 3 would be, were it before it.
    cell = Cell101(
        ((0, 1), (0, 2), (0, 3), (1, 2), (2, 5), (3, 4), (3, 5), (4, 5), (0, 5)),
        ("conv3x3-bn-relu",) * 4,
    )
    assert cell.predecessors(5) == (0, 2, 3, 4)
    assert cell.channels(128) == {1: 43, 2: 43, 3: 43, 4: 42}


def test_a_cell_may_join_its_input_to_its_output_alone() -> None:
    cell = Cell101(((0, 1),), ())
    assert cell.channels(128) == {}
    assert Network101(cell, channels=4, num_classes=7)(torch.randn(2, 3, 8, 8)).shape == (2, 7)


def test_every_published_cell_classifies() -> None:
    images = torch.randn(2, 3, 8, 8)
    for cell in cells()[::10]:
        assert Network101(cell, channels=8)(images).shape == (2, 10)


def test_a_cell_computes_the_sum_of_what_its_vertices_read() -> None:
    # The output of a pooling vertex is its projected input's largest neighbour.
    network = Network101(Cell101(((0, 1), (1, 2)), ("maxpool3x3",)), channels=4)
    first = network.features.eval()[1]
    maps = torch.randn(2, 4, 8, 8)
    projected = first.get_submodule("projections")["1"](maps)  # pyright: ignore[reportIndexIssue]
    expected = torch.nn.functional.max_pool2d(projected, 3, stride=1, padding=1)
    assert torch.equal(first(maps), expected)


def test_what_is_no_cell_is_refused() -> None:
    with pytest.raises(ValueError, match=r"operations must be of .*, got \['sep_conv_3x3'\]"):
        Cell101(((0, 1), (1, 2)), ("sep_conv_3x3",))
    with pytest.raises(ValueError, match=r"edges must go from a vertex of 0\.\.2 to a later one"):
        Cell101(((1, 0), (1, 2)), ("maxpool3x3",))
    with pytest.raises(ValueError, match="must have a path from its input to its output"):
        Cell101(((0, 1),), ("maxpool3x3",))
    with pytest.raises(ValueError, match="at most 7 vertices and 9 edges, got 6 and 15"):
        Cell101(tuple((i, j) for j in range(6) for i in range(j)), ("maxpool3x3",) * 4)
    with pytest.raises(ValueError, match=r"the matrix of 1 operations must have shape \(3, 3\)"):
        Cell101.from_matrix([[0, 1], [0, 0]], ["maxpool3x3"])
