"""Sizes as short formulas of the user's names: torch's expressions parsed, simplified and written as one would."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import sympy
from sympy import Add, Dummy, Expr, Integer, Mul, Pow, Symbol
from torch.utils._sympy import functions as torch_functions
from torch.utils._sympy.functions import CleanDiv, FloorDiv, IntTrueDiv, Max, Min, Mod, ModularIndexing, PythonMod
from torch.utils._sympy.printers import PythonPrinter

UNKNOWN = "?"  # a size that depends on values
_POWERS = {2: "²", 3: "³"}
_FLOATING = {"ToFloat", "TruncToInt", "FloorToInt", "CeilToInt", "RoundToInt"}


class Formulas:
    """Reads torch's texts and expressions in the user's names. `divisible` holds what is known to divide a name."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """`names` is from torch's symbol ("s44") to the user's name ("B")."""
        self.names = dict(names)
        self.symbols = {name: dimension(name) for name in dict.fromkeys(names.values())}
        self.divisible: dict[Symbol, int] = {}
        self._scope = {torch: self.symbols[name] for torch, name in names.items()}
        self._texts: dict[str, str] = {}

    def text(self, written: str) -> str:
        """A size as torch writes it ("((s1//2)//2)") in short ("H//4"); "?" where it depends on values."""
        found = self._texts.get(written)
        if found is None:
            expr = self.parse(written)
            found = self._texts[written] = UNKNOWN if expr is None else self.short(expr)
        return found

    def parse(self, written: str) -> Expr | None:
        """The expression that torch wrote, in the user's names; None where it has symbols of no name."""
        try:
            tree = _Divisions().visit(ast.parse(written.strip(), mode="eval"))
            code = compile(ast.fix_missing_locations(tree), "<size>", "eval")
            found = eval(code, {"__builtins__": {}, **_FUNCTIONS, **self._scope})
        except Exception:  # a symbol of values (u0), or a function that no size has had so far
            return None
        return sympy.sympify(found)

    def named(self, expr: sympy.Basic) -> sympy.Basic | None:
        """An expression of torch's symbols in the user's; None where it has symbols of no name."""
        known = {symbol: self._scope.get(symbol.name) for symbol in expr.free_symbols}
        if None in known.values():
            return None
        return expr.xreplace(known)

    def short(self, expr: Expr) -> str:
        """An expression of the user's symbols, simplified and written."""
        # what divides a name goes through the floors: 2·(H//2) is H where 2 divides H
        wider = simplify(expr.xreplace({symbol: number * symbol for symbol, number in self.divisible.items()}))
        whole = {symbol: symbol / number for symbol, number in self.divisible.items()}
        return write(wider.xreplace(whole).replace(FloorDiv, _cleared) if whole else wider)


@lru_cache(maxsize=256)
def dimension(name: str) -> Symbol:
    """The symbol of a named dimension: a whole number of at least 1."""
    return Symbol(name, integer=True, positive=True)


class _Divisions(ast.NodeTransformer):
    """`a // b` is torch's FloorDiv, which knows how to simplify itself; `a % b` its Mod, `a / b` its true division."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        function = {ast.FloorDiv: "FloorDiv", ast.Mod: "PythonMod", ast.Div: "IntTrueDiv"}.get(type(node.op))
        if function is None:
            return node
        return ast.Call(ast.Name(function, ast.Load()), [node.left, node.right], [])

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Call(ast.Name("sympify", ast.Load()), [node], [])


_FUNCTIONS: dict[str, Any] = {
    name: value for name, value in vars(torch_functions).items() if isinstance(value, type) or callable(value)
} | {"sympify": sympy.sympify, "Mod": Mod, "floor": sympy.floor, "ceiling": sympy.ceiling, "Eq": sympy.Eq}


@lru_cache(maxsize=8192)
def simplify(expr: Expr) -> Expr:
    """The same value in fewer words: nested floors joined, constants taken into them, products instead of sums."""
    if expr.is_Atom:
        return Integer(int(expr)) if expr.is_Float and int(expr) == expr else expr
    args = [simplify(arg) for arg in expr.args]
    kind = type(expr).__name__
    if kind == "ToFloat" or (kind in _FLOATING and args[0].is_integer):
        return args[0]
    if isinstance(expr, ModularIndexing):
        return simplify(PythonMod(FloorDiv(args[0], args[1]), args[2]))
    if isinstance(expr, (Mod, PythonMod)):
        return PythonMod(*args)
    if isinstance(expr, (FloorDiv, CleanDiv)):
        return _floor(*args) if isinstance(args[1], Integer) else FloorDiv(*args)
    if isinstance(expr, IntTrueDiv) and args[0].is_integer and isinstance(args[1], Integer):
        whole = FloorDiv(*args)
        return whole if not whole.has(FloorDiv) else IntTrueDiv(*args)
    rebuilt = expr.func(*args) if args else expr
    return _collected(rebuilt) if isinstance(rebuilt, (Add, Mul, Pow)) else rebuilt


def _floor(base: Expr, divisor: Expr) -> Expr:
    """(e//a + c)//b is (e + a·c)//(a·b), for whole numbers a, b and c."""
    constant, rest = base.as_coeff_Add()
    if isinstance(rest, FloorDiv) and isinstance(constant, Integer) and isinstance(rest.args[1], Integer):
        inner, by = rest.args
        return _floor(sympy.expand(inner + by * constant), by * divisor)
    return FloorDiv(base, divisor)


def _cleared(base: Expr, divisor: Expr) -> Expr:
    """(e/a)//b is e//(a·b)."""
    above, below = sympy.fraction(sympy.together(base))
    return FloorDiv(above, below * divisor, evaluate=False)


def _collected(expr: Expr) -> Expr:
    """A sum of products as a product of sums where that is shorter, e//b + c as (e + b·c)//b."""
    atoms: dict[Expr, Dummy] = {}

    def hide(one: Expr) -> Expr:
        if one.is_Atom:
            return one
        if isinstance(one, (Add, Mul)) or (isinstance(one, Pow) and isinstance(one.exp, Integer)):
            return one.func(*[hide(arg) for arg in one.args])
        return atoms.setdefault(one, Dummy(integer=True))

    hidden = sympy.expand(hide(expr))
    if isinstance(hidden, Add):
        hidden = sympy.factor(hidden)
    shown = {dummy: atom for atom, dummy in atoms.items()}
    return _folded(hidden, shown)


def _folded(expr: Expr, shown: Mapping[Dummy, Expr]) -> Expr:
    if isinstance(expr, Dummy):
        return shown[expr]
    if expr.is_Atom:
        return expr
    if isinstance(expr, Add):
        constant, rest = expr.as_coeff_Add()
        atom = shown.get(rest) if isinstance(rest, Dummy) else None
        if isinstance(constant, Integer) and isinstance(atom, FloorDiv) and isinstance(atom.args[1], Integer):
            return FloorDiv(sympy.expand(atom.args[0] + atom.args[1] * constant), atom.args[1])
    return expr.func(*[_folded(arg, shown) for arg in expr.args], evaluate=False)


def evaluator(expr: sympy.Basic, names: tuple[str, ...]) -> Callable[..., Any]:
    """A function of sizes, in the order of `names`, that gives the value of an expression."""
    text = PythonPrinter().doprint(expr.xreplace({dimension(name): Symbol(f"v{i}") for i, name in enumerate(names)}))
    scope: dict[str, Any] = {"math": __import__("math")}
    found: Callable[..., Any] = eval(f"lambda {', '.join(f'v{i}' for i in range(len(names)))}: {text}", scope)
    return found


# writing

_SUM, _PRODUCT, _ATOM = 1, 2, 3


def write(expr: sympy.Basic) -> str:
    """An expression as text: "32·(H//4)·(W//4)", "(H + 1)//2", "H/4"."""
    return _write(expr)[0]


def _write(expr: Any) -> tuple[str, int]:
    """A text, and how tightly it binds."""
    if isinstance(expr, Symbol):
        return expr.name, _ATOM
    if expr.is_Number:
        text = str(int(expr)) if int(expr) == expr else f"{float(expr):g}"
        return text, _ATOM if expr >= 0 else _SUM
    if isinstance(expr, Add):
        return _sum(expr), _SUM
    if isinstance(expr, Mul):
        return _product(expr)
    if isinstance(expr, Pow) and isinstance(expr.exp, Integer) and expr.exp > 0:
        return _bound(expr.base, _ATOM) + _POWERS.get(int(expr.exp), f"^{expr.exp}"), _ATOM
    if isinstance(expr, (FloorDiv, CleanDiv, IntTrueDiv)):
        base, by = expr.args
        sign = "//" if isinstance(expr, FloorDiv) and not isinstance(expr, CleanDiv) else "/"
        return f"{_bound(base, _ATOM)}{sign}{_bound(by, _ATOM)}", _PRODUCT
    if isinstance(expr, (Mod, PythonMod)):
        base, by = expr.args
        return f"{_bound(base, _ATOM)} % {_bound(by, _ATOM)}", _PRODUCT
    if isinstance(expr, (Max, Min, sympy.Max, sympy.Min)):
        numbers = sorted(expr.args, key=lambda one: (not one.is_Number, str(one)))
        name = "max" if isinstance(expr, (Max, sympy.Max)) else "min"
        return f"{name}({', '.join(_write(one)[0] for one in numbers)})", _ATOM
    if type(expr).__name__ in _FLOATING:
        rounded = {"CeilToInt": "ceil", "RoundToInt": "round"}.get(type(expr).__name__, "int")
        return f"{rounded}({_write(expr.args[0])[0]})", _ATOM
    return UNKNOWN, _ATOM


def _bound(expr: Any, level: int) -> str:
    text, own = _write(expr)
    return text if own >= level else f"({text})"


def _sum(expr: Add) -> str:
    # what is taken away comes last, and before it numbers after names
    terms = sorted(expr.args, key=lambda one: (bool(one.could_extract_minus_sign()), one.is_Number, str(one)))
    text = ""
    for term in terms:
        minus = bool(term.could_extract_minus_sign())
        part = _bound(-term if minus else term, _PRODUCT)
        text += f"{' - ' if minus else ' + '}{part}" if text else f"{'-' if minus else ''}{part}"
    return text


def _product(expr: Mul) -> tuple[str, int]:
    numbers = [one for one in expr.args if one.is_Number]
    coefficient = sympy.Mul(*numbers)
    names = sorted((one for one in expr.args if not one.is_Number), key=lambda one: (not one.is_Symbol, str(one)))
    minus = coefficient < 0
    above, below = (
        abs(coefficient.p if coefficient.is_Rational else coefficient),
        coefficient.q if coefficient.is_Rational else 1,
    )
    parts = [] if above == 1 else [_write(sympy.sympify(above))[0]]
    parts += [_bound(one, _ATOM) for one in names]
    text = "·".join(parts) or "1"
    if below != 1:
        text = (f"({text})" if len(parts) > 1 else text) + f"/{below}"
    return ("-" + text, _SUM) if minus else (text, _PRODUCT if len(parts) > 1 or below != 1 else _ATOM)
