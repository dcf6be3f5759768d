"""Whether two models mean the same by a token id; only then can one draft for the other."""

from ridgeway.core.errors import MethodError
from ridgeway.models.model import Model


def check_vocabulary(target: Model, draft: Model) -> None:
    """Raise MethodError, saying which tokens differ, unless `draft` has the vocabulary of `target`."""
    cannot = f"{draft.name} cannot draft for {target.name}"
    ours, theirs = target.config.vocab_size, draft.config.vocab_size
    if ours != theirs:
        raise MethodError(f"{cannot}: its vocabulary has {theirs} tokens, not {ours}; take one of the same family")
    if target.tokenizer is None or draft.tokenizer is None:
        return
    for token in range(min(target.tokenizer.vocab_size, draft.tokenizer.vocab_size)):
        mine, other = target.tokenizer.token(token), draft.tokenizer.token(token)
        if mine != other:
            raise MethodError(
                f"{cannot}: token {token} is {other!r} there and {mine!r} here; take one of the same tokenizer"
            )
