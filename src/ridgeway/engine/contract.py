"""What callers and methods must keep to; whoever does not is told so, and no one else is hurt."""

from ridgeway.core.arrays import IntArray, ints
from ridgeway.core.errors import MethodError, RequestError
from ridgeway.core.query import Commit, Query
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import ModelTraits
from ridgeway.engine.request import Request


def check_request(request: Request, traits: ModelTraits, capacity: int) -> None:
    """Raise RequestError or MethodError if the request could not run with `capacity` slots for K/V."""
    prompt, params, name = request.prompt, request.params, request.request_id
    if not prompt:
        raise RequestError(f"request {name!r}: the prompt is empty; give it at least one token")
    bad = next((token for token in prompt if not 0 <= token < traits.vocab_size), None)
    if bad is not None:
        raise RequestError(f"request {name!r}: token id {bad} is not in the vocabulary (0 to {traits.vocab_size - 1})")
    longest = min(traits.max_positions, capacity)
    if len(prompt) >= longest:
        limit = "the model's context" if longest == traits.max_positions else "the K/V pool"
        raise RequestError(
            f"request {name!r}: the prompt has {len(prompt)} tokens, but {limit} holds {longest}, "
            "answer included; shorten the prompt"
        )
    for what, tokens in (("logit_bias", params.logit_bias), ("stop_token_ids", params.stop_ids)):
        outside = [token for token in tokens if token >= traits.vocab_size]
        if outside:
            raise RequestError(f"request {name!r}: {what} names token {outside[0]}, outside the vocabulary")
    refusal = request.method.refusal(traits)
    if refusal is not None:
        raise MethodError(f"method {request.method.name!r} cannot run this model: {refusal}")
    if params.prompt_logprobs is not None and not traits.autoregressive:
        raise RequestError("prompt_logprobs need an autoregressive model")
    if params.stop_strings and request.new_text is None:
        raise RequestError("stop strings need a tokenizer, and this model has none; use stop_token_ids")


def check_query(sequence: Sequence, query: Query, rows: int) -> None:
    """Raise MethodError if a method planned what it may not; it was granted `rows` rows."""
    method = sequence.method.name
    if len(query) > rows:
        raise MethodError(f"method {method!r} planned {len(query)} rows where {rows} were granted")
    tokens = query.tokens.tolist()
    if min(tokens) < 0 or max(tokens) >= sequence.traits.vocab_size:
        raise MethodError(f"method {method!r} planned a token outside the vocabulary")
    if min(query.positions.tolist()) < 0:
        raise MethodError(f"method {method!r} planned a negative position")


def checked_tokens(sequence: Sequence, query: Query, commit: Commit, reads: int) -> list[int]:
    """The tokens of a commit, once it is sure that the kept K/V are those of the committed tokens.

    reads: how many rows the method had asked to be read. Raises MethodError.
    """
    tokens: list[int] = ints(commit.tokens).tolist()
    method = sequence.method.name
    if tokens and not 0 <= min(tokens) <= max(tokens) < sequence.traits.vocab_size:
        raise MethodError(f"method {method!r} committed a token outside the vocabulary")
    keep = ints(commit.keep).tolist()  # lists: there are few rows, and NumPy would take longer to begin than to finish
    after = sequence.tokens[sequence.cached :] + tokens
    if len(keep) > len(after) or _picked(query.tokens, keep) != after[: len(keep)]:
        raise MethodError(f"method {method!r} keeps rows that are not the tokens after the cached ones")
    if _picked(query.positions, keep) != list(range(sequence.cached, sequence.cached + len(keep))):
        raise MethodError(f"method {method!r} keeps rows whose positions do not follow the cached ones")
    if commit.hold is not None and len(commit.hold) and not 0 <= commit.hold.min() <= commit.hold.max() < len(query):
        raise MethodError(f"method {method!r} holds rows that its query of {len(query)} rows does not have")
    source = range(len(tokens)) if commit.source is None else ints(commit.source).tolist()
    if len(source) != len(tokens) or any(not -1 <= row < reads for row in source):
        raise MethodError(f"method {method!r} does not say of every token which of the {reads} read rows it came from")
    return tokens


def _picked(values: IntArray, rows: list[int]) -> list[int]:
    listed = values.tolist()
    return [listed[row] for row in rows]
