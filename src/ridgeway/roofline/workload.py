"""What is asked of a model and a machine: how long prompts and answers are, how many at once, what an hour costs."""

from dataclasses import dataclass

from ridgeway.core.errors import RequestError


@dataclass(frozen=True)
class Workload:
    """prompt, output: tokens of a request. concurrency: requests that share every weight stream.

    price: dollars per hour of the machine, None: not known. ends: the answer is over after so many tokens (an end
    token), though `output` were asked for; None: it goes on to the end. page: slots of a K/V page. reserved: slots
    that contiguous allocation sets aside for each request; None: the model's longest context. memory_share: of
    the usable memory that weights and K/V may take (activations and the engine need the rest).
    Raises RequestError if a number makes no sense.
    """

    prompt: int = 512
    output: int = 256
    concurrency: int = 1
    price: float | None = None
    ends: int | None = None
    page: int = 16
    reserved: int | None = None
    memory_share: float = 0.9

    def __post_init__(self) -> None:
        for name in ("prompt", "output", "concurrency", "page"):
            value = getattr(self, name)
            if value < 1:
                raise RequestError(f"{name}={value}: expected 1 or more")
        if self.price is not None and not self.price > 0:
            raise RequestError(f"price={self.price}: expected dollars per hour, above 0")
        if self.ends is not None and not 1 <= self.ends <= self.output:
            raise RequestError(f"ends={self.ends}: expected 1 to output, {self.output}")
        if self.reserved is not None and self.reserved < self.length:
            raise RequestError(f"reserved={self.reserved}: expected prompt + output, {self.length}, or more")
        if not 0 < self.memory_share <= 1:
            raise RequestError(f"memory_share={self.memory_share}: expected above 0, at most 1")

    @property
    def length(self) -> int:
        """Tokens of a request when its answer is complete."""
        return self.prompt + self.output

    @property
    def useful(self) -> int:
        """Tokens of the answer that somebody wants."""
        return self.output if self.ends is None else self.ends
