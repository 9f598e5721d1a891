"""The hooks that the user registered, as they ran: what each changed, and for which module."""

from __future__ import annotations

from typing import Any

from tracecall.calls import Call
from tracecall.explanation.code import quoted
from tracecall.explanation.subject import Subject
from tracecall.recording.user_hooks import global_hooks, module_hooks
from tracecall.story import Evidence, Step

MOST_LINES = 20  # of one list
MOST_SENTENCES = 3
_IN_PLACE = " changed in place"


def hooks_that_replaced(subject: Subject, when: str, *what: str) -> list[Call]:
    """The root's hooks of one kind that put something else in the place of "args", "kwargs" or "output"."""
    return [call for call in _of_the_root(subject, when) if _replaced(call, what)]


def hooks_that_wrote(subject: Subject, when: str, *what: str) -> list[Call]:
    """The root's hooks of one kind that wrote into "args", "kwargs" or "output" in place."""
    return [call for call in _of_the_root(subject, when) if _wrote(call, what)]


def names(calls: list[Call]) -> str:
    """Their names in one text, each once."""
    return ", ".join(dict.fromkeys(f"`{call.name}`" for call in calls))


def changes(calls: list[Call]) -> list[Evidence]:
    """What each of these hooks changed."""
    return [Evidence(call.name, ", ".join(call.changed or [])) for call in calls]


def own_hooks(subject: Subject) -> list[Step]:
    """One step about all of them; none where no hook ran."""
    ran = [call for _, call in subject.trace.walk() if call.hook is not None]
    if not ran:
        return []
    lines = []
    for call in ran:
        where = f"{call.site.file}:{call.site.line}" if call.site else "no Python source"
        lines.append(f"{call.name}, {_kind(call)}, {where}: {', '.join(call.changed or ['changed nothing'])}")
    changing = [call for call in ran if call.changed]
    told = [f"Your own hooks are part of this run: {len(ran)} ran."]
    told += dict.fromkeys(sentence for call in changing for sentence in _sentences(subject, call))
    if len(told) > MOST_SENTENCES + 1:
        told = [*told[: MOST_SENTENCES + 1], "The list below has what the others changed."]
    sources = [source for hook in _functions(subject)[:2] for source in quoted(hook, most=12)]
    evidence = [Evidence("in the order in which they ran", lines[:MOST_LINES])]
    return [Step("hooks", "Your own hooks", " ".join(told), evidence, sources)]


def _sentences(subject: Subject, call: Call) -> list[str]:
    """What a hook that changed something did, and to the forward of which module."""
    forward = f"the `forward` of `{call.path}`" if call.path else f"`{subject.name}.forward`"
    start = f"`{call.name}`, a {_kind(call, ticks=True)},"
    found = []
    if call.hook is not None and call.hook.when == "forward pre-hook":
        if _replaced(call, ("args", "kwargs")):
            found.append(f"{start} replaced arguments, so {forward} did not get what was passed.")
        elif _wrote(call, ("args", "kwargs")):
            found.append(f"{start} wrote into the arguments before {forward} got them.")
        return found
    if _replaced(call, ("output",)):
        found.append(f"{start} put something else in the place of what {forward} returned.")
    elif _wrote(call, ("output",)):
        found.append(f"{start} wrote into what {forward} returned: it is still the same object.")
    if _wrote(call, ("args", "kwargs")):
        found.append(f"{start} wrote into the arguments, after {forward} had run.")
    return found


def _kind(call: Call, *, ticks: bool = False) -> str:
    if call.hook is None:
        return "hook"
    path = f"`{call.path}`" if ticks and call.path else call.path or "the root"
    every = call.hook.scope == "global"
    return f"{call.hook.when} for every module, here {path}" if every else f"{call.hook.when} on {path}"


def _replaced(call: Call, what: tuple[str, ...]) -> bool:
    return any(one.startswith(what) and not one.endswith(_IN_PLACE) for one in call.changed or ())


def _wrote(call: Call, what: tuple[str, ...]) -> bool:
    return any(one.startswith(what) and one.endswith(_IN_PLACE) for one in call.changed or ())


def _of_the_root(subject: Subject, when: str) -> list[Call]:
    """The root's own hooks, and those for every module as they ran for it."""
    calls = subject.trace.calls
    inside = calls[0].children if calls and calls[0].kind == "module" and calls[0].path == "" else []
    return [call for call in inside if call.hook is not None and call.hook.when == when and call.path == ""]


def _functions(subject: Subject) -> list[Any]:
    found = [hook for _, _, hook, _ in global_hooks()]
    found += [hook for module in subject.model.modules() for _, _, hook, _ in module_hooks(module)]
    return list({id(hook): hook for hook in found}.values())
