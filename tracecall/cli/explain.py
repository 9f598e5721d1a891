"""`tracecall explain`: what happens when you write `model(x)`, step by step, shown on a model that runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from tracecall.cli import options, output
from tracecall.cli.loading import Wanted, load_target, watching
from tracecall.cli.options import one_of

if TYPE_CHECKING:
    from tracecall.story import Story, Topic


def explain(
    model: options.Model = "linear",
    inputs: options.Inputs = None,
    topic: Annotated[
        str | None,
        typer.Option(
            # written out: help must not wait for the data types
            metavar="WHICH",
            help="Tell one part alone: call, hooks, submodules, forward, modes or prediction.",
        ),
    ] = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    seed: options.Seed = None,
    train: options.Train = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the Story as JSON, and nothing else.")] = False,
) -> None:
    """Tell step by step what calling MODEL does, and prove each step."""
    from tracecall.story import TOPICS

    number = options.seeds(seed)
    topics = TOPICS if topic is None else (one_of("--topic", topic, TOPICS, "hooks"),)
    wanted = Wanted(model, inputs or [], device, dtype, number, train)
    wanted.check()
    story = _told(wanted, topics, as_json)
    if as_json:
        output.show_json(story)
    else:
        from tracecall.views.story import story as story_view

        output.show(lambda width: story_view(story, width=width))
    if story.error is not None:
        raise typer.Exit(1)


def _told(wanted: Wanted, topics: tuple["Topic", ...], as_json: bool) -> "Story":
    """Load the model and watch it run, and tell in the Story how it was made."""
    with watching(as_json=as_json) as watch:
        target = load_target(wanted, watch.progress)
        from tracecall.explanation import tell
        from tracecall.loading import grad_mode

        with grad_mode(train=wanted.train):
            story = tell(target.model, target.args, target.kwargs, topics=topics)
    story.model.origin = target.origin
    story.notes.extend([*target.notes, *watch.notes])
    return story
