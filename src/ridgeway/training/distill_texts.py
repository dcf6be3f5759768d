"""Texts that a model wrote, to distil it from: what it will say is learned from what it says.

Prompts may come from a file. Else the model writes them too, as in "Magpie" (Xu et al. 2024, arXiv 2406.08464): given
what stands before a user's turn in its chat template, an aligned model goes on with what a user would ask. A model
without a template goes on from the token that begins every text.

    head, prompt   at temperature 1               by the model
    tail, answer   at the temperature in turn     by the model
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from ridgeway.core.errors import RequestError
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.llm import LLM
from ridgeway.models.tokenizer import Tokenizer
from ridgeway.training.draft_head_recipe import DraftHeadRecipe

_TOP_P = 0.95  # of all that is sampled: what is beyond derails a text more often than it enriches it
_PROMPT_TOKENS = 96  # of a self-written prompt at most
_SHORTEST = 3  # tokens of a prompt or an answer from which something can be learned
_TOGETHER = 64  # sequences of a call


@dataclass(frozen=True)
class Text:
    """prompt, answer: token ids; an answer that ended holds the end token. seed: that the answer was drawn with."""

    number: int
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    temperature: float
    seed: int

    @property
    def length(self) -> int:
        """Tokens of both."""
        return len(self.prompt) + len(self.answer)


class DistillTexts:
    """The texts of a recipe, in a file that grows: a line says what they depend on, then one line a text.

    Text `i` is a function of recipe, model and `i`. Raises RequestError or ModelError for a file of other texts, and
    for prompts that cannot be had.
    """

    def __init__(self, recipe: DraftHeadRecipe, llm: LLM, path: Path) -> None:
        self.path = path
        self.llm = llm
        self._asked = recipe.texts
        self._seed = recipe.seed
        context = llm.traits.max_positions
        if self._asked.length >= context:
            raise RequestError(
                f"data.length is {self._asked.length}; expected less than {context}, the model's context"
            )
        self._given = None if self._asked.prompts is None else _prompts(Path(self._asked.prompts), llm.tokenizer)
        if self._given is not None and len(self._given) < self._asked.answers:
            raise RequestError(
                f"data.answers is {self._asked.answers}; expected at most {len(self._given)}, "
                f"the prompts of {self._asked.prompts}"
            )
        self._head, self._tail = ([], []) if self._given is not None else _turn(llm)
        self._lines = self._resume()

    def write(self) -> Iterator[int]:
        """Write the texts that are left; how many there are so far, of `answers`."""
        with self.path.open("a", encoding="utf-8") as file:
            while self._lines < self._asked.answers:
                numbers = range(self._lines, min(self._asked.answers, self._lines + _TOGETHER))
                for line in self._round(numbers):
                    print(json.dumps(line), file=file)
                file.flush()
                self._lines = numbers.stop
                yield self._lines

    def read(self) -> list[Text]:
        """The texts of the recipe; without those of which nothing can be learned."""
        texts = []
        lines = self.path.read_text(encoding="utf-8").splitlines()[1 : 1 + self._asked.answers]
        for number, line in enumerate(lines):
            item = json.loads(line)
            if len(item["answer"]) >= _SHORTEST:
                prompt, answer = tuple(item["prompt"]), tuple(item["answer"])
                texts.append(Text(number, prompt, answer, self._temperature(number), self._seed_of(number) + 1))
        return texts

    def _round(self, numbers: range) -> list[dict[str, list[int]]]:
        """Their lines; one whose prompt is too short or too long has no answer."""
        prompts = self._written(numbers) if self._given is None else [self._given[number] for number in numbers]
        room = self.llm.traits.max_positions - self._asked.length
        able = [place for place, prompt in enumerate(prompts) if 0 < len(prompt) <= room]
        lines: list[dict[str, list[int]]] = [{"prompt": prompt, "answer": []} for prompt in prompts]
        params = [self._params(numbers[place]) for place in able]
        for place, answer in zip(able, self._say([prompts[place] for place in able], params), strict=True):
            lines[place]["answer"] = answer
        return lines

    def _written(self, numbers: range) -> list[list[int]]:
        """Prompts that the model writes; [] where it wrote next to nothing."""
        most = (self.llm.traits.max_positions - len(self._head) - len(self._tail) - self._asked.length) // 2
        if most < _SHORTEST:
            raise RequestError(f"data.length is {self._asked.length}; it leaves no room for prompts in the context")
        params = [
            SamplingParams(temperature=1.0, top_p=_TOP_P, seed=self._seed_of(n), max_tokens=min(most, _PROMPT_TOKENS))
            for n in numbers
        ]
        prompts = []
        for said in self._say([self._head] * len(numbers), params):
            if said and said[-1] in self.llm.traits.end_ids:
                said.pop()
            prompts.append([*self._head, *said, *self._tail] if len(said) >= _SHORTEST else [])
        return prompts

    def _say(self, prompts: list[list[int]], params: list[SamplingParams]) -> list[list[int]]:
        if not prompts:
            return []
        outputs = self.llm.generate(prompts, params, method="ar")
        return [list(output.outputs[0].token_ids) for output in outputs]

    def _params(self, number: int) -> SamplingParams:
        temperature = self._temperature(number)
        return SamplingParams(
            temperature=temperature,
            top_p=_TOP_P if temperature else 1.0,
            seed=self._seed_of(number) + 1,
            max_tokens=self._asked.length,
        )

    def _temperature(self, number: int) -> float:
        return self._asked.temperatures[number % len(self._asked.temperatures)]

    def _seed_of(self, number: int) -> int:
        """Of the prompt; the answer's is the next."""
        return (self._seed << 32) + 2 * number

    def _resume(self) -> int:
        """Begin the file, or cut off a line that is not whole; how many texts it holds."""
        stated = {
            "model": self.llm.title,
            "seed": self._seed,
            "length": self._asked.length,
            "temperatures": list(self._asked.temperatures),
            "prompts": self._asked.prompts,
        }
        content = self.path.read_bytes() if self.path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            self.path.write_text(json.dumps(stated) + "\n", encoding="utf-8")
            return 0
        if _header(whole) != stated:
            raise RequestError(f"{self.path}: holds texts of another model or recipe; give another --out, or remove it")
        if whole != content:
            self.path.write_bytes(whole)
        return whole.count(b"\n") - 1


def _header(content: bytes) -> Any:
    try:
        return json.loads(content.splitlines()[0])
    except ValueError:
        return None


def _turn(llm: LLM) -> tuple[list[int], list[int]]:
    """What stands before a user's turn and after it: what conversations have in common whose turns share nothing."""
    if llm.model.tokenizer is None or not llm.model.tokenizer.has_chat_template:
        return _beginning(llm), []
    one, other = (llm.chat_prompt([{"role": "user", "content": content}]) for content in ("A", "0"))
    head = _shared(one, other)
    tail = _shared(one[::-1], other[::-1])[::-1]
    if not head:
        raise RequestError(f"{llm.model.name}: nothing stands before a user's turn; name a file as data.prompts")
    return head, tail


def _shared(one: list[int], other: list[int]) -> list[int]:
    """What both begin with."""
    return [token for token, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]


def _beginning(llm: LLM) -> list[int]:
    """The tokens that every text begins with; without any, an end, after which a text begins."""
    tokenizer = llm.model.tokenizer
    tokens = [] if tokenizer is None else tokenizer.encode("")
    if not tokens and tokenizer is not None and tokenizer.bos_id is not None:
        tokens = [tokenizer.bos_id]
    tokens = tokens or list(llm.traits.end_ids[:1])
    if not tokens:
        raise RequestError(f"{llm.model.name} has no token that begins a text; name a file as data.prompts")
    return tokens


def _prompts(path: Path, tokenizer: Tokenizer) -> Sequence[list[int]]:
    """Token ids of the prompts of a file, each as a user's turn if there is a chat template."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"data.prompts {str(path)!r}: expected a .jsonl file ({error})") from error
    prompts = []
    for number, line in enumerate(lines, 1):
        try:
            prompt = json.loads(line)["prompt"]
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(f'{path}, line {number}: expected {{"prompt": ...}}') from error
        if not isinstance(prompt, str):
            raise RequestError(f"{path}, line {number}: the prompt is {prompt!r}; expected a text")
        if tokenizer.has_chat_template:
            prompts.append(tokenizer.chat_ids([{"role": "user", "content": prompt}]))
        else:
            prompts.append(tokenizer.encode(prompt))
    return prompts
