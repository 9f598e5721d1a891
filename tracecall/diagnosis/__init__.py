"""A Trace read by one who knows what goes wrong: the cause of a failed run, and findings on one that succeeded."""

from __future__ import annotations

from collections.abc import Callable

from tracecall.calls import Cause, Trace
from tracecall.diagnosis import (
    arguments,
    attention,
    broadcasting,
    convolutions,
    devices,
    dimensions,
    dtypes,
    embeddings,
    features,
    losses,
    normalization,
    products,
    recurrent,
    sizes,
)
from tracecall.diagnosis.failure import Answer, Failure, failure_of, listed, spec_of, subject, tensors
from tracecall.diagnosis.inputs import with_batch
from tracecall.proposals import Proposal

# in this order: what has nothing to do with sizes, then torch.nn's modules, then operations
_RULES: tuple[Callable[[Failure], Answer | None], ...] = (
    arguments.wrong_arguments,
    arguments.not_a_tensor,
    arguments.no_tensor,
    devices.devices,
    dtypes.unsupported,
    embeddings.embedding,
    dtypes.differing,
    features.linear,
    features.functional_linear,
    features.bilinear,
    convolutions.convolution,
    convolutions.pooling,
    normalization.batch_norm,
    normalization.instance_norm,
    normalization.group_norm,
    normalization.layer_norm,
    attention.multihead,
    attention.scaled_dot_product,
    recurrent.recurrent,
    losses.class_loss,
    losses.same_shape_loss,
    sizes.view,
    sizes.expand,
    sizes.unflatten,
    sizes.split,
    products.einsum,
    products.matmul,
    broadcasting.elementwise,
    broadcasting.cat,
    embeddings.indexing,
    dimensions.missing_dimension,
    dimensions.permute,
    dimensions.unpacked,
)
# where an example without a batch dimension may be what made the sizes differ
_SIZES = {"linear-features", "view-size", "matmul", "norm-channels", "normalized-shape", "dimensions"}


def diagnose(trace: Trace) -> tuple[Cause, list[Proposal]] | None:
    """Why a run failed, and what might fit; None for a run that did not fail in a call of the model.

    A cause that is not certain has the kind "unknown" and says what is known. Nobody has tried the proposals yet.
    """
    failure = failure_of(trace)
    if failure is None:
        return None
    for rule in _RULES:
        answer = rule(failure)
        if answer is not None:
            return with_batch(failure, answer) if answer[0].kind in _SIZES else answer
    return _unknown(failure), []


def _unknown(failure: Failure) -> Cause:
    """The error's own first line, and the shapes that met."""
    call = failure.call
    named = failure.module if call.internal else call
    lines = failure.error.message.strip().splitlines()
    sentence = f"{subject(failure, named)} raised {failure.error.type}" + (f": {lines[0]}" if lines else "")
    given = [f"{value.where} {spec.dtype}{listed(spec.shape)}" for value in tensors(named) if (spec := spec_of(value))]
    if given:
        sentence += f" (got {', '.join(given[:4])})"
    return failure.cause("unknown", sentence)
