"""Random nested models whose call tree is known by construction: each call writes down that it is made.

A Plan is plain data that hypothesis draws and shrinks. `World` builds the model from it; what the model then does is
logged by the code that does it (`Truth`), with no hook and no look at any frame.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

WIDTH = 4
MOST_CALLS = 40  # of one run: shared modules that call each other grow fast
NOT_IN_THE_MODEL = "<not in the model>"

Passing = Literal["positional", "keyword", "mixed"]


class Boom(Exception):
    """What the generated models raise."""


@dataclass(frozen=True)
class Step:
    """One thing that a forward does. `target` counts in the module's children, or in all modules for `up`."""

    does: Literal["call", "bypass", "weights", "up", "again", "raise", "operate", "build", "thread"]
    target: int = 0
    passing: Passing = "positional"
    catching: bool = False


@dataclass(frozen=True)
class UserHook:
    """A hook of the model's user on one of the modules."""

    module: int
    when: Literal["pre", "post"]
    does: Literal["nothing", "change", "raise", "call"]
    with_kwargs: bool = False
    always_call: bool = False


@dataclass(frozen=True)
class Part:
    """One module: children are (where it is kept, which of the later modules), so that sharing is common and cycles are not."""

    kind: Literal["own", "linear", "relu", "identity", "sequential"]
    children: tuple[tuple[Literal["attribute", "list", "dict"], int], ...] = ()
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A model and how it is run."""

    parts: tuple[Part, ...]
    hooks: tuple[UserHook, ...]
    mode: Literal["inference", "no_grad", "grad"]
    budget: int  # how deep the model may call itself


STEPS = st.builds(
    Step,
    does=st.sampled_from(
        ["call"] * 6 + ["bypass"] * 2 + ["weights", "up", "up", "again", "raise", "operate", "build", "thread"]
    ),
    target=st.integers(0, 7),
    passing=st.sampled_from(["positional", "keyword", "mixed"]),
    catching=st.booleans(),
)
HOOKS = st.builds(
    UserHook,
    module=st.integers(0, 7),
    when=st.sampled_from(["pre", "post"]),
    does=st.sampled_from(["nothing", "nothing", "change", "change", "call", "raise"]),
    with_kwargs=st.booleans(),
    always_call=st.booleans(),
)
CHILDREN = st.lists(
    st.tuples(st.sampled_from(["attribute", "list", "dict"]), st.integers(0, 6)), min_size=1, max_size=4
)


def part(*kinds: str) -> st.SearchStrategy[Part]:
    """A module of one of these kinds."""
    return st.builds(
        Part,
        kind=st.sampled_from(kinds),
        children=CHILDREN.map(tuple),
        steps=st.lists(STEPS, min_size=1, max_size=6).map(tuple),
    )


PLANS = st.builds(
    Plan,
    parts=st.tuples(
        part("own"),
        st.lists(part("own", "own", "own", "linear", "relu", "identity", "sequential"), min_size=1, max_size=7),
    ).map(lambda drawn: (drawn[0], *drawn[1])),
    hooks=st.lists(HOOKS, max_size=4).map(tuple),
    mode=st.sampled_from(["inference", "no_grad", "grad"]),
    budget=st.integers(0, 3),
)


@dataclass
class Happened:
    """One call of a module or hook, as it was made."""

    kind: Literal["module", "hook"]
    type: str
    path: str
    inputs: tuple[str, ...] = ()
    error: BaseException | None = None
    children: list[Happened] = field(default_factory=list)


class Truth:
    """What one run did, written down by the code that did it."""

    def __init__(self, paths: dict[int, str]) -> None:
        self.paths = paths
        self.top = Happened("module", "", "")
        self.open = [self.top]
        self.left = MOST_CALLS
        self.bypassed: set[str] = set()
        self.weights_used: set[str] = set()

    def call(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Call a module, and write down that it is called."""
        first = "x" if isinstance(module, Own) else "input"
        inputs = [first, "budget"][: len(args)]
        happened = self._begin("module", type(module).__name__, module, (*inputs, *kwargs))
        try:
            return module(*args, **kwargs)
        except Boom as error:
            happened.error = error
            raise
        finally:
            self.open.pop()
            if isinstance(module, nn.Sequential):
                before = [one for one in happened.children if one.type.startswith("pre")]
                if all(one.error is None for one in before):
                    happened.children[len(before) : len(before)] = self.inside(module)

    def inside(self, module: nn.Sequential) -> list[Happened]:
        """What the forward of torch's Sequential calls."""
        return [Happened("module", type(inner).__name__, self.path(inner), ("input",)) for inner in module]

    def hook(self, name: str, module: nn.Module, run: Callable[[], Any]) -> Any:
        """Run the body of a user's hook, and write down that it runs."""
        happened = self._begin("hook", name, module, ())
        try:
            return run()
        except Boom as error:
            happened.error = error
            raise
        finally:
            self.open.pop()

    def _begin(self, kind: Literal["module", "hook"], type_name: str, module: nn.Module, inputs: Any) -> Happened:
        happened = Happened(kind, type_name, self.path(module), tuple(inputs))
        self.open[-1].children.append(happened)
        self.open.append(happened)
        self.left -= 1
        return happened

    def path(self, module: nn.Module) -> str:
        return self.paths.get(id(module), NOT_IN_THE_MODEL)


class Own(nn.Module):
    """A module whose forward follows its plan."""

    def __init__(self, world: World, steps: tuple[Step, ...]) -> None:
        super().__init__()
        self.world, self.steps = world, steps
        self.kept: tuple[nn.Module, ...] = ()  # in a tuple: known to the forward, not registered by it
        self.register_module("nothing", None)

    def keep(self, children: list[tuple[str, nn.Module]]) -> None:
        """Register the children in their places."""
        self.kept = tuple(child for _, child in children)
        self.listed = nn.ModuleList(child for where, child in children if where == "list")
        self.by_name = nn.ModuleDict({f"key{i}": child for i, (where, child) in enumerate(children) if where == "dict"})
        for i, (where, child) in enumerate(children):
            if where == "attribute":
                setattr(self, f"child{i}", child)

    def forward(self, x: torch.Tensor, budget: int = 0, *, scale: float = 1.0) -> torch.Tensor:
        x = x * scale + 1  # something to see where this runs without its `__call__`
        for step in self.steps:
            if self.world.truth.left <= 0:
                break
            try:
                x = self.world.run_step(self, step, x, budget)
            except Boom:
                if not step.catching:
                    raise
                x = x - 1
        return x


class World:
    """A model built from a plan."""

    def __init__(self, plan: Plan) -> None:
        made = [self._make(part) for part in plan.parts]
        self.modules = made
        for i, (part, module) in enumerate(zip(plan.parts, made, strict=True)):
            if isinstance(module, Own):
                later = made[i + 1 :]
                module.keep([(where, later[nth % len(later)]) for where, nth in part.children if later])
        root = made[0]
        assert isinstance(root, Own)
        self.root = root
        self.for_hooks = root.for_hooks = nn.ReLU()
        self.plan = plan
        self.paths = {id(module): path for path, module in self.root.named_modules()}
        for number, hook in enumerate(plan.hooks):
            module = made[hook.module % len(made)]
            # in the first call of a module that is no part of the model, what goes on inside a pre-hook is not watched
            if id(module) in self.paths or hook.when == "post" or hook.does in ("nothing", "change"):
                self._add_hook(number, hook, module)
        self.truth = Truth(self.paths)

    def _make(self, part: Part) -> nn.Module:
        if part.kind == "own":
            return Own(self, part.steps)
        if part.kind == "linear":
            return nn.Linear(WIDTH, WIDTH)
        if part.kind == "relu":
            return nn.ReLU()
        if part.kind == "identity":
            return nn.Identity()
        return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU())

    def run(self) -> torch.Tensor:
        """Run the model once and write its truth; a Boom that no forward catches comes out."""
        self.truth = Truth(self.paths)
        x = torch.linspace(-1, 1, 2 * WIDTH).reshape(2, WIDTH)
        output: torch.Tensor = self.truth.call(self.root, x, self.plan.budget)
        return output

    def mode(self) -> contextlib.AbstractContextManager[object]:
        """What the plan runs in."""
        if self.plan.mode == "inference":
            return torch.inference_mode()
        return torch.no_grad() if self.plan.mode == "no_grad" else torch.enable_grad()

    def run_step(self, module: Own, step: Step, x: torch.Tensor, budget: int) -> torch.Tensor:
        truth = self.truth
        if step.does == "raise":
            raise Boom(f"from {truth.path(module)}")
        if step.does == "operate":
            return torch.relu(x).sum(0, keepdim=True) - x
        if step.does == "build":
            built = nn.ReLU()
            if self.plan.hooks:
                number = step.target % len(self.plan.hooks)
                self._add_hook(number, self.plan.hooks[number], built)
            return self.call(built, step, x, 0)
        if step.does in ("up", "again"):
            other = module if step.does == "again" else self.modules[step.target % len(self.modules)]
            return self.call(other, step, x, budget - 1) if budget > 0 else x
        if not module.kept:
            return x
        child = module.kept[step.target % len(module.kept)]
        if step.does == "bypass":
            truth.bypassed.add(truth.path(child))
            if isinstance(child, nn.Sequential):
                truth.open[-1].children += truth.inside(child)
            return child.forward(x)
        if step.does == "weights" and isinstance(child, nn.Linear):
            truth.weights_used.add(truth.path(child))
            return F.linear(x, child.weight, child.bias)
        in_main = threading.current_thread() is threading.main_thread()
        # what a thread runs first must be of the model: nothing else tells a thread of the model's from any other
        if step.does == "thread" and in_main and id(child) in self.paths:
            return self.in_a_thread(child, step, x, budget)
        return self.call(child, step, x, budget)

    def call(self, module: nn.Module, step: Step, x: torch.Tensor, budget: int) -> torch.Tensor:
        own = isinstance(module, Own)
        if step.passing == "keyword":
            return self.truth.call(module, **({"budget": budget, "x": x} if own else {"input": x}))
        if step.passing == "mixed" and own:
            return self.truth.call(module, x, budget, scale=0.5)
        return self.truth.call(module, x, budget) if own else self.truth.call(module, x)

    def in_a_thread(self, child: nn.Module, step: Step, x: torch.Tensor, budget: int) -> torch.Tensor:
        """Call a child in a thread of its own and wait for it; what it raises ends there."""
        results = [x]

        def work() -> None:
            with contextlib.suppress(Boom), self.mode():  # torch's modes are each thread's own
                results.append(self.call(child, step, x, budget))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return results[-1].clone()

    def _add_hook(self, number: int, plan: UserHook, module: nn.Module) -> None:
        name = f"{plan.when}_{plan.does}_{number}"

        def body(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if plan.does == "raise":
                raise Boom(f"from {name}")
            if plan.does == "call":
                self.truth.call(self.for_hooks, torch.ones(2, WIDTH))
            if plan.does != "change":
                return None
            if plan.when == "post":
                return None if output is None else output + 1
            if plan.with_kwargs:
                changed = {
                    key: value + 1 if isinstance(value, torch.Tensor) else value for key, value in kwargs.items()
                }
                return tuple(self._changed(args)), changed
            return tuple(self._changed(args)) if args else None

        def hook(owner: nn.Module, args: tuple[Any, ...], *rest: Any) -> Any:
            kwargs = rest[0] if plan.with_kwargs else {}
            output = rest[-1] if plan.when == "post" else None
            return self.truth.hook(name, owner, lambda: body(args, kwargs, output))

        hook.__name__ = hook.__qualname__ = name
        if plan.when == "pre":
            module.register_forward_pre_hook(hook, with_kwargs=plan.with_kwargs)
        else:
            # torch silences what a hook raises while another exception is on its way
            always = plan.always_call and plan.does != "raise"
            module.register_forward_hook(hook, with_kwargs=plan.with_kwargs, always_call=always)

    @staticmethod
    def _changed(args: tuple[Any, ...]) -> list[Any]:
        return [arg + 1 if isinstance(arg, torch.Tensor) else arg for arg in args]
