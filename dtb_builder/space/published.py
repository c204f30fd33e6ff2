"""Read the text of a genotype as DARTS and its successors publish it, without running it."""

import ast
import warnings

from dtb_builder.errors import GenotypeError
from dtb_builder.space.cell import shown

__all__ = ["read_cells"]

_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_CONCAT = [2, 3, 4, 5]
_MAX_CHARACTERS = 4_000  # a published genotype has about 600


def read_cells(text: str) -> tuple[list[object], list[object]]:
    """The pairs of the normal and of the reduction cell; the caller checks the pairs.

    Raises:
        GenotypeError: the text is not ``Genotype(normal=[...], normal_concat=[2, 3, 4, 5],
            reduce=[...], reduce_concat=[2, 3, 4, 5])`` or one of its published variants.
    """
    if not isinstance(text, str):
        raise GenotypeError(f"wanted the text of a genotype, got {shown(text)}")
    if len(text) > _MAX_CHARACTERS:
        raise GenotypeError(
            f"wanted the text of a genotype of at most {_MAX_CHARACTERS} characters, "
            f"got {len(text)}: {shown(text)}"
        )
    source = text.strip()
    arguments = _arguments(_call(source), source)
    for field in ("normal_concat", "reduce_concat"):
        _check_concat(arguments[field], field, source)
    return _pairs(arguments["normal"], "normal", source), _pairs(
        arguments["reduce"], "reduce", source
    )


def _call(source: str) -> ast.Call:
    try:
        # Warnings are about odd literals, which are refused below.
        with warnings.catch_warnings(action="ignore"):
            statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or "nested too deeply"
        raise GenotypeError(
            f"wanted the text of a genotype, got {shown(source)}: {reason}"
        ) from None
    match statements:
        case [
            ast.Expr(ast.Call(func=ast.Name("Genotype")) as call)
            | ast.Assign([ast.Name()], ast.Call(func=ast.Name("Genotype")) as call)
        ]:
            return call
    raise GenotypeError(f"wanted the text Genotype(...), got {shown(source)}")


def _arguments(call: ast.Call, source: str) -> dict[str, ast.expr]:
    if len(call.args) > len(_FIELDS):
        raise GenotypeError(
            f"Genotype(...) has the {len(_FIELDS)} arguments {', '.join(_FIELDS)}, "
            f"got {len(call.args)} of them without a name"
        )
    arguments: dict[str, ast.expr] = dict(zip(_FIELDS, call.args, strict=False))
    for keyword in call.keywords:
        if keyword.arg not in _FIELDS:
            raise GenotypeError(
                f"Genotype(...) has the arguments {', '.join(_FIELDS)}, "
                f"got {_written(keyword, source)}"
            )
        if keyword.arg in arguments:
            raise GenotypeError(f"Genotype(...) has {keyword.arg} twice")
        arguments[keyword.arg] = keyword.value
    missing = [field for field in _FIELDS if field not in arguments]
    if missing:
        raise GenotypeError(f"Genotype(...) lacks {', '.join(missing)}: {shown(source)}")
    return arguments


def _check_concat(node: ast.expr, field: str, source: str) -> None:
    match node:
        case ast.List(elements) | ast.Tuple(elements):
            right = [_constant(element) for element in elements] == _CONCAT
        case ast.Call(ast.Name("range"), bounds, []):
            right = [_constant(bound) for bound in bounds] == [2, 6]
        case _:
            right = False
    if not right:
        raise GenotypeError(
            f"{field}: wanted {_CONCAT} or range(2, 6), the only one of the DARTS space, "
            f"got {_written(node, source)}"
        )


def _pairs(node: ast.expr, cell: str, source: str) -> list[object]:
    if not isinstance(node, ast.List | ast.Tuple):
        raise GenotypeError(
            f"{cell} cell: wanted a list of (operation, predecessor) pairs, "
            f"got {_written(node, source)}"
        )
    pairs: list[object] = []
    for i, element in enumerate(node.elts):
        match element:
            case ast.Tuple([first, second]) | ast.List([first, second]):
                if isinstance(first, ast.Tuple | ast.List):  # both pairs of a node, in pt.darts
                    pairs.append(_pairs(element, cell, source))
                    continue
                pair = _constant(first), _constant(second)
            case _:
                pair = None, None
        if None in pair:
            raise GenotypeError(
                f"{cell} cell, edge {i}: wanted a pair such as ('sep_conv_3x3', 0), "
                f"got {_written(element, source)}"
            )
        pairs.append(pair)
    return pairs


def _constant(node: ast.expr) -> object:
    """The string or integer of a literal, also of numpy's integers; None for anything else."""
    match node:
        case ast.Constant(str() | int() as value):
            return value
        case ast.UnaryOp(ast.USub(), ast.Constant(int() as value)):
            return -value
        case ast.Call(ast.Attribute(ast.Name("np" | "numpy")), [ast.Constant() as inner], []):
            return _constant(inner)  # np.str_('skip_connect') and np.int64(0), as numpy 2 has them
    return None


def _written(node: ast.expr | ast.keyword, source: str) -> str:
    text = ast.get_source_segment(source, node) or type(node).__name__
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
