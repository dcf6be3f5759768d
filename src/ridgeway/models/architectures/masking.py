"""The ids that diffusion checkpoints leave unsaid.

Many of them state neither their mask nor all tokens that end an answer: the samplers published with them have the
numbers written down. They mean something only in the vocabulary that the family was published with.
"""

from collections.abc import Iterable

from ridgeway.core.errors import ModelError
from ridgeway.models.fields import Fields


def mask_id(fields: Fields, vocab_size: int, family: int) -> int | None:
    """`mask_token_id`; if it is not stated, the family's if the vocabulary has it, else None: then a request has to
    say which token is the mask. Raises ModelError if it is no token.
    """
    if "mask_token_id" not in fields:
        return family if family < vocab_size else None
    ids = fields.ids("mask_token_id", vocab_size)
    if len(ids) != 1:
        raise fields.wrong("mask_token_id", "one token id")
    return ids[0]


def end_ids(fields: Fields, vocab_size: int, family: Iterable[int]) -> tuple[int, ...]:
    """The family's end tokens, unless the checkpoint names others: then its vocabulary is another one."""
    known = tuple(family)
    stated = fields.ids("eos_token_id", vocab_size)
    if max(known) >= vocab_size or (stated and not set(stated) & set(known)):
        return ()
    return known


def block_size(fields: Fields, name: str, family: int | None, longest: int) -> int:
    """Positions of a block as the field `name` states them, or as the family was trained (None: in several sizes).

    Raises ModelError, also for more positions than `longest`, the model's context.
    """
    size = fields.integer(name, family)
    if size > longest:
        raise ModelError(fields.source, f"{name} is {size}; expected at most {longest}, the model's context")
    return size
