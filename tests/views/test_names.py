"""Names in the room that they have: of calls that share a row, their number and their indices go last."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tracecall.calls import Call, Fold
from tracecall.views.labels import named
from tracecall.views.names import cut_name, least


@pytest.mark.parametrize(
    ("first", "last", "name"),
    [
        ("layers.0", "layers.31", "layers.0 … layers.31 ×32"),
        ("encoder.layers.0", "encoder.layers.31", "encoder.layers.0 … 31 ×32"),
        ("decoder.layers.0.attn", "decoder.layers.31.attn", "decoder.layers.0 … 31.attn ×32"),
        ("F.relu", "F.relu", "F.relu ×32"),
        ("self.long_name[0](a.x)", "self.long_name[31](a.x)", "self.long_name[0](a.x) … self.long_name[31](a.x) ×32"),
    ],
)
def test_long_names_tell_once_what_they_share(first, last, name):
    """Where they are paths; an expression stays as it is."""
    assert named(Call("module", first, first, "Linear", fold=Fold(32, first, last))) == name


@pytest.mark.parametrize(
    ("name", "width", "shown"),
    [
        ("layers.0 … layers.23 ×24  +1", 28, "layers.0 … layers.23 ×24  +1"),
        ("layers.0 … layers.23 ×24  +1", 22, "layers.0 … 23 ×24  +1"),
        ("layers.0 … layers.23 ×24  +1", 20, "layers.0…23 ×24  +1"),
        ("layers.0 … layers.23 ×24  +1", 18, "…yers.0…23 ×24  +1"),
        ("layers.0 … layers.23 ×24  +1", 10, "…0…23 ×24"),
        ("layers.0 … layers.23 ×24  +1", 8, "lay… ×24"),
        ("model.layers.0 … 23.mlp ×24", 25, "model.layers.0…23.mlp ×24"),
        ("model.layers.0 … 23.mlp ×24", 23, "…layers.0 … 23.mlp ×24"),
        ("✗ layers.0 … layers.9 ×10", 12, "✗ …s.0…9 ×10"),
        ("layers.0 … layers.9 ×10  opaque: torch.compile", 24, "layers.0 … 9 ×10  opaqu…"),
        ("layers.0 … layers.9", 12, "layers.0 … 9"),
        ("torch._transformer_encoder_layer_fwd ×24", 16, "torch._tran… ×24"),
        ("×12 in turn", 6, "×12 i…"),
    ],
)
def test_the_number_and_the_indices_go_last(name, width, shown):
    """First what the names share is told once, then the spaces go, then the start."""
    assert cut_name(name, width, folded=True).rstrip() == shown


def test_a_call_of_its_own_is_cut_at_its_end():
    """Whatever is in its name."""
    assert cut_name("layers.0 … layers.23 ×24", 12, folded=False) == "layers.0 … …"


_parts = st.text("ab0.字é …×✗1 ", min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(_parts, _parts, st.integers(1, 999), st.sampled_from(["", "  +3", "  opaque: x y"]), st.integers(1, 50))
def test_a_name_takes_the_room_that_it_has(first, last, number, rest, width):
    """Exactly, whatever it is made of."""
    assert cell_len(cut_name(f"{first} … {last} ×{number}{rest}", width, folded=True)) == width


@settings(max_examples=100, deadline=None)
@given(st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,9}){0,3}", fullmatch=True), st.integers(1, 9), st.integers(10, 999))
def test_the_least_room_keeps_the_indices(path, first, last):
    """And the number of the calls."""
    name = f"{path}.{first} … {path}.{last} ×{last}"
    whole, cut = least(name)
    assert cut_name(name, whole, folded=True) == f"{path}.{first}…{last} ×{last}"
    assert cut_name(name, cut, folded=True) == f"…{first}…{last} ×{last}"
