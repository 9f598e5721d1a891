"""Demands in words: a condition as one would write it, and the sizes that it leaves."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import sympy
from sympy import Add, Eq, Expr, Integer, Ne
from sympy.core.relational import Relational
from torch.utils._sympy.functions import Mod, PythonMod

from tracecall.calls import Site
from tracecall.demands import Demand
from tracecall.recording.sites import expression_name
from tracecall.symbolic.demands import MOST, Condition, Sizes
from tracecall.symbolic.formulas import Formulas, dimension, simplify, write
from tracecall.symbolic.guards import Guard, site_of

_SIGNS = {"==": "=", "!=": "≠", "<=": "≤", ">=": "≥", "<": "<", ">": ">"}
_TURNED = {"=": "=", "≠": "≠", "≤": "≥", "≥": "≤", "<": ">", ">": "<"}
_STATEMENT = re.compile(r"(?:if|elif|while|assert)\s+([^:,]+)")  # where a whole statement was running
LISTED = 4  # ranges that are written out
TRIED = 3  # of the sizes of a list, the smallest: with these the model is run


Fails = Callable[[str, int], bool]  # whether the model fails with this size of a name, as a run showed


def demands(found: list[Condition], formulas: Formulas, fails: Fails = lambda name, size: False) -> list[Demand]:
    """Conditions as data for a reader: sizes of one name are those that all conditions on that name alone leave."""
    told: list[Demand] = []
    for one in found:
        together = [two for two in found if set(two.names) <= set(one.names)]
        made = _demand(one, together, formulas, fails)
        alike = [two for two in told if two.dims == made.dims and len(made.dims) == 1]
        if any((two.text, two.name, two.site) == (made.text, made.name, made.site) for two in alike):
            continue
        if alike:
            made.solved = None  # it stands beside the first
        told.append(made)
    return told


def _demand(one: Condition, together: list[Condition], formulas: Formulas, fails: Fails) -> Demand:
    text = condition_text(one.expr)
    alone = _solved([one], one.names, fails)
    solved = _solved(together, one.names, fails) if len(together) > 1 else alone
    places = {origin(two.guard) for two in together}
    if _says_all(solved) and len(one.names) == 1 and len(places) == 1:
        text = solved or text  # one place asks for all of it
    elif _says_all(alone):
        text = alone or text
    name, site = origin(one.guard)
    return Demand(
        text=text,
        dims=sorted(one.names, key=list(formulas.symbols).index),
        name=name,
        site=site,
        solved=None if solved == text else solved,
        tried=dict(one.tried),
    )


def _says_all(solved: str | None) -> bool:
    return solved is not None and (" divisible by " in solved or " = " in solved)


def origin(guard: Guard) -> tuple[str, Site | None]:
    """What asked for it, as the reader knows it: a module of torch.nn's by its path, else the expression."""
    site = site_of(guard.place)
    if guard.path:
        return guard.path, site
    text = None if site is None else site.text
    condition = _STATEMENT.match(text or "")
    return expression_name(condition[1] if condition else text) or "", site


def condition_text(expr: sympy.Basic) -> str:
    """A condition in short: "(H//4)·(W//4) = 49", "S ≤ 512", "H divisible by 4"."""
    if isinstance(expr, Relational):
        return _relation(expr)
    if isinstance(expr, sympy.Not):
        return f"not ({condition_text(expr.args[0])})"
    if isinstance(expr, (sympy.And, sympy.Or)):
        word = " and " if isinstance(expr, sympy.And) else " or "
        return word.join(sorted(condition_text(one) for one in expr.args))
    return write(expr)


def _relation(expr: Relational) -> str:
    sign = _SIGNS[expr.rel_op]
    left, right = simplify(expr.lhs), simplify(expr.rhs)
    for one, other in ((left, right), (right, left)):
        if isinstance(one, (Mod, PythonMod)) and other == 0 and sign in "=≠":
            base, by = (write(part) for part in one.args)
            return f"{base}{' not' if sign == '≠' else ''} divisible by {by}"
    terms = [*Add.make_args(sympy.expand(left - right))] if not (left.is_number or right.is_number) else []
    if terms:  # names on both sides: what is added stays left
        constant = sum((term for term in terms if term.is_number), Integer(0))
        terms = [term for term in terms if not term.is_number]
        above = Add(*(term for term in terms if not term.could_extract_minus_sign()))
        below = Add(*(-term for term in terms if term.could_extract_minus_sign())) - constant
        left, right = simplify(above), simplify(below)
    elif left.is_number:
        left, right, sign = right, left, _TURNED[sign]
    if left.is_number or not isinstance(left, Expr):
        left, right, sign = right, left, _TURNED[sign]
    if right.is_number:
        left, right, sign = _by_itself(left, right, sign)
    return f"{write(left)} {sign} {write(right)}"


def _by_itself(left: Expr, right: Expr, sign: str) -> tuple[Expr, Expr, str]:
    """32·x + 4 = 100 as x = 3: constants go right, common factors out; of whole numbers, < becomes ≤."""
    constant, left = left.as_coeff_Add()
    right -= constant
    factor, left = left.as_coeff_Mul()
    if factor < 0:
        sign = _TURNED[sign]
    right = right / factor
    if right.is_Rational and not right.is_Integer and sign not in "=≠":
        sign, right = ("≤", sympy.floor(right)) if sign in "<≤" else ("≥", sympy.ceiling(right))
    if sign == "<":
        sign, right = "≤", right - 1
    elif sign == ">":
        sign, right = "≥", right + 1
    return left, right, sign


def _solved(together: list[Condition], names: tuple[str, ...], fails: Fails) -> str | None:
    """The sizes that satisfy conditions on one name, or on two that are equal; None where that says little."""
    if len(names) == 1:
        (name,) = names
        sizes = [size for size in range(1, MOST + 1) if all(one.of({name: size}) for one in together)]
        text = sizes_text(name, sizes)
        if text is None or " ∈ " not in text:
            return text
        # what no condition says: a size that leaves nothing of a tensor
        failed = {size for size in sizes[:TRIED] if fails(name, size)}
        return sizes_text(name, [size for size in sizes if size not in failed])
    if len(names) == 2:
        first, second = names
        square = [size for size in range(1, MOST + 1) if all(one.of({first: size, second: size}) for one in together)]
        if not square or len(square) > MOST // 2:
            return None
        text = sizes_text(f"{first}, {second}", square)
        return None if text is None else f"{text} when {'square' if {first, second} == {'H', 'W'} else 'equal'}"
    return None


def sizes_text(name: str, sizes: list[int]) -> str | None:
    """Sizes among 1…MOST as text: "H = 224", "S ≤ 512", "H ∈ 28…31", "H divisible by 32"."""
    if not sizes or len(sizes) == MOST:
        return None
    step = sizes[0]
    if step > 1 and sizes == list(range(step, MOST + 1, step)):
        return f"{name} divisible by {step}"
    ranges: list[list[int]] = []
    for size in sizes:
        if ranges and size == ranges[-1][1] + 1:
            ranges[-1][1] = size
        else:
            ranges.append([size, size])
    if len(ranges) == 1:
        (low, high) = ranges[0]
        if low == high:
            return f"{name} = {low}"
        if high == MOST:
            return f"{name} ≥ {low}"
        return f"{name} ≤ {high}" if low == 1 else f"{name} ∈ {low}…{high}"
    texts = [
        str(low) if low == high else f"{low}…" if high == MOST else f"{low}…{high}" for low, high in ranges[:LISTED]
    ]
    return f"{name} ∈ {', '.join(texts)}{', …' if len(ranges) > LISTED else ''}"


def divisors(found: list[Condition]) -> Mapping[sympy.Symbol, int]:
    """What the demands say to divide a name."""
    known: dict[sympy.Symbol, int] = {}
    for one in found:
        if len(one.names) == 1 and not isinstance(one.expr, Ne) and isinstance(one.expr, Eq):
            (name,) = one.names
            sizes = [size for size in range(1, 257) if one.of({name: size})]
            if len(sizes) > 1 and sizes[0] > 1 and all(size % sizes[0] == 0 for size in sizes):
                symbol = dimension(name)
                known[symbol] = int(sympy.ilcm(known.get(symbol, 1), sizes[0]))
    return known


def sizes_line(sizes: Sizes) -> str:
    """Sizes as text: "B = 3, H = 28"."""
    return ", ".join(f"{name} = {size}" for name, size in sizes.items())
