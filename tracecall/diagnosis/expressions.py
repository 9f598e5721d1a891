"""The failing expression as the user wrote it: its callee, its arguments, and constants of a recorded operation."""

from __future__ import annotations

import ast

from tracecall.calls import Call


def constant(call: Call, *names: str) -> int | list[int] | None:
    """A recorded argument that is a number or a list of numbers: size=[-1, 1568]."""
    for value in call.inputs:
        if value.where in names and isinstance(value.value, str) and (found := _numbers(value.value)) is not None:
            return found
    return None


def _numbers(text: str) -> int | list[int] | None:
    tree = parsed(text)
    if isinstance(tree, (ast.List, ast.Tuple)):
        found = [_integer(item) for item in tree.elts]
        kept = [item for item in found if item is not None]
        return kept if len(kept) == len(found) else None
    return None if tree is None else _integer(tree)


def _integer(tree: ast.expr) -> int | None:
    sign = 1
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        sign, tree = -1, tree.operand
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int) and not isinstance(tree.value, bool):
        return sign * tree.value
    return None


def parsed(text: str | None) -> ast.expr | None:
    """The expression that a text is; None if it is none."""
    if text is None:
        return None
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return None


def written(call: Call) -> ast.Call | None:
    """The call expression that an operation is, as the user wrote it."""
    tree = parsed(call.site.text if call.site else None)
    return tree if isinstance(tree, ast.Call) else None


def function_name(call: Call) -> str | None:
    """The function or method that an operation is written as: "torch.bmm", "x.view"; None for an operator."""
    tree = written(call)
    return None if tree is None else ast.unparse(tree.func)


def runs(call: Call) -> int:
    """How many aten operations ran, or began, under an operation's expression."""
    return sum((call.operations or {}).values())


def with_sizes(call: Call, sizes: list[int]) -> str | None:
    """A view or reshape with other sizes: "x.view(-1, 2048)"; None where it is not written as a method or function."""
    tree = written(call)
    if tree is None or not isinstance(tree.func, ast.Attribute):
        return None
    text = ", ".join(map(str, sizes))
    if isinstance(tree.func.value, ast.Name) and tree.func.value.id == "torch":
        return f"{ast.unparse(tree.func)}({ast.unparse(tree.args[0])}, ({text}))" if tree.args else None
    return f"{ast.unparse(tree.func)}({text})"


def factored(call: Call, position: int, number: int) -> str | None:
    """A size with the product that it is written as: "1568 = 32·7·7" for x.view(-1, 32 * 7 * 7)."""
    tree = written(call)
    if tree is None or not tree.args:
        return None
    items: list[ast.expr] = list(tree.args)
    if isinstance(items[-1], (ast.Tuple, ast.List)):
        items = list(items[-1].elts)
    if not -len(items) <= position < len(items):
        return None
    factors = _factors(items[position])
    if len(factors) < 2:
        return None
    return f"{number} = {'·'.join(factors)}"


def _factors(tree: ast.expr) -> list[str]:
    """The factors of a product of numbers and names."""
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Mult):
        return [*_factors(tree.left), *_factors(tree.right)]
    return [ast.unparse(tree)]


def operands(call: Call) -> list[str]:
    """What an operation's tensors are called in its expression: ["x", "y"] for x @ y or torch.bmm(x, y)."""
    tree = parsed(call.site.text if call.site else None)
    if isinstance(tree, ast.BinOp):
        return [ast.unparse(tree.left), ast.unparse(tree.right)]
    if not isinstance(tree, ast.Call):
        return []
    items = list(tree.args)
    if call.kind == "module":
        return [ast.unparse(item) for item in items]
    if items and isinstance(items[0], (ast.List, ast.Tuple)):
        items = list(items[0].elts)
    is_function = isinstance(tree.func, ast.Name) or (
        isinstance(tree.func, ast.Attribute)
        and isinstance(tree.func.value, ast.Name)
        and tree.func.value.id in ("torch", "F", "self")
    )
    if not is_function and isinstance(tree.func, ast.Attribute) and "functional" not in ast.unparse(tree.func):
        items.insert(0, tree.func.value)
    return [ast.unparse(item) for item in items]


def replaced(call: Call, operand: int, text: str) -> str | None:
    """An operation's expression with `text` put after one operand: "x @ y.transpose(-2, -1)"."""
    tree = parsed(call.site.text if call.site else None)
    if isinstance(tree, ast.BinOp):
        target = (tree.left, tree.right)[operand]
    elif isinstance(tree, ast.Call):
        names = operands(call)
        wanted = names[operand] if operand < len(names) else None
        parts = list(tree.args)
        if isinstance(tree.func, ast.Attribute):
            parts.append(tree.func.value)
        if tree.args and isinstance(tree.args[0], (ast.List, ast.Tuple)):
            parts.extend(tree.args[0].elts)
        found = [part for part in parts if ast.unparse(part) == wanted]
        if len(found) != 1:
            return None
        target = found[0]
    else:
        return None
    simple = isinstance(target, (ast.Name, ast.Attribute, ast.Call, ast.Subscript))
    changed = ast.unparse(target) if simple else f"({ast.unparse(target)})"
    original = call.site.text if call.site and call.site.text else ""
    if target.end_col_offset is None or target.lineno != 1 or not original.isascii():
        return None
    return original[: target.col_offset] + changed + text + original[target.end_col_offset :]
