"""torch's words for sizes become short formulas of the user's names."""

import pytest

from tracecall.symbolic.formulas import Formulas, dimension, evaluator

NAMES = {"s1": "H", "s2": "W", "s3": "B", "s4": "T"}


@pytest.mark.parametrize(
    ("torchs", "ours"),
    [
        ("s1", "H"),
        ("3", "3"),
        ("((s1//2)//2)", "H//4"),
        ("((s1 - 1)//2) + 1", "(H + 1)//2"),
        ("(((s1 - 1)//2)//2) + 1", "(H + 3)//4"),
        ("((s1 - 9)//3) + 1", "H//3 - 2"),
        ("32*((s1//4))*((s2//4))", "32·(H//4)·(W//4)"),
        ("s3*((s1 - 1)//2)*((s2 - 1)//2) + s3*((s1 - 1)//2) + s3*((s2 - 1)//2) + s3", "B·((H + 1)//2)·((W + 1)//2)"),
        ("s1**2", "H²"),
        ("-s1 + 128", "128 - H"),
        ("(s1*s2)//256", "(H·W)//256"),
        ("Max(1, (s1//2))", "max(1, H//2)"),
        ("2*s4", "2·T"),
        ("Mod(s1, 4)", "H % 4"),
        ("((s1//16))*((s2//16)) + 1", "(H//16)·(W//16) + 1"),
        ("u0", "?"),
        ("u0 + s1", "?"),
    ],
)
def test_a_size_is_written_in_short(torchs, ours):
    """Nested floors are one, constants go into them, sums of products are products; what depends on values is "?"."""
    assert Formulas(NAMES).text(torchs) == ours


@pytest.mark.parametrize(
    ("torchs", "ours"), [("((s1//2)//2)", "H/4"), ("2*((s1//2))", "H"), ("(s1 + 31)//32", "H/32"), ("s1//64", "H//64")]
)
def test_what_divides_a_name_goes_through_the_floor(torchs, ours):
    """With H divisible by 32 the floors that are none are left out."""
    formulas = Formulas(NAMES)
    formulas.divisible[dimension("H")] = 32
    assert formulas.text(torchs) == ours


@pytest.mark.parametrize(
    "text", ["((s1 - 1)//2) + 1", "s3*((s1 - 1)//2)*((s2 - 1)//2) + s3*((s1 - 1)//2)", "(s1*s2)//7"]
)
def test_a_short_formula_has_the_value_of_the_long_one(text):
    """Simplifying changes no number."""
    from tracecall.symbolic.formulas import simplify

    formulas = Formulas(NAMES)
    expr = formulas.parse(text)
    before, after = (evaluator(one, ("H", "W", "B", "T")) for one in (expr, simplify(expr)))
    for sizes in [(h, w, b, 5) for h in range(1, 12) for w in range(1, 12) for b in (1, 3)]:
        assert before(*sizes) == after(*sizes)
