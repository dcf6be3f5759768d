"""Prompt files: what a line may be, what is refused, and how prompts become groups."""

import json

import pytest

from ridgeway.bench.workload import PromptLine, Workload, encoded, limited, read_prompts
from ridgeway.core.errors import RequestError


class Words:
    """A tokenizer whose tokens are lengths of words; the chat template puts 0 before and 99 after."""

    def __init__(self, has_chat_template=True):
        self.has_chat_template = has_chat_template

    def encode(self, text):
        return [len(word) for word in text.split()]

    def chat_ids(self, messages):
        return [0, *(token for message in messages for token in self.encode(message["content"])), 99]


def prompts_file(tmp_path, *lines):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_a_line_has_a_prompt_or_messages_or_turns_and_maybe_a_category(tmp_path):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    path = prompts_file(
        tmp_path, {"prompt": "One"}, "", {"messages": messages, "category": "chat"}, {"turns": ["first", "second"]}
    )
    assert read_prompts(path) == [PromptLine("One"), PromptLine(tuple(messages), "chat"), PromptLine("first")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not JSON"),
        ("3", "expected an object"),
        ({"text": "x"}, "expected one of prompt, messages and turns"),
        ({"prompt": "x", "turns": ["y"]}, "prompt and turns"),
        ({"prompt": ""}, "not empty"),
        ({"turns": []}, "list of texts"),
        ({"messages": ["x"]}, "list of objects"),
        ({"prompt": "x", "category": 3}, "category is text"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, says):
    path = prompts_file(tmp_path, {"prompt": "good"}, line)
    with pytest.raises(RequestError, match="line 2") as told:
        read_prompts(path)
    assert says in str(told.value)


def test_a_file_that_is_empty_or_missing_is_refused(tmp_path):
    with pytest.raises(RequestError, match="holds no prompt"):
        read_prompts(prompts_file(tmp_path, ""))
    with pytest.raises(RequestError, match="cannot be read"):
        read_prompts(tmp_path / "nowhere.jsonl")


def test_there_is_a_dozen_built_in_prompts_of_different_kinds():
    lines = read_prompts(None)
    assert len(lines) == 12
    assert len({line.category for line in lines}) == 12
    assert len({line.content for line in lines}) == 12


def test_a_limit_takes_that_many_of_each_category():
    lines = [PromptLine(str(n), category) for n, category in enumerate(["a", "b", "a", "a", "b", ""])]
    assert [line.content for line in limited(lines, 1)] == ["0", "1", "5"]
    assert [line.content for line in limited(lines, 2)] == ["0", "1", "2", "4", "5"]
    assert limited(lines, None) == lines


def test_text_goes_through_the_chat_template_unless_it_is_raw_or_there_is_none():
    lines = [PromptLine("one three")]
    assert encoded("x", lines, Words()).prompts == ((0, 3, 5, 99),)
    assert encoded("x", lines, Words(), raw=True).prompts == ((3, 5),)
    assert encoded("x", lines, Words(has_chat_template=False)).prompts == ((3, 5),)
    with pytest.raises(RequestError, match="no chat template"):
        encoded("x", [PromptLine(({"role": "user", "content": "Hi"},))], Words(has_chat_template=False))


def test_every_group_is_full_and_every_prompt_is_in_one():
    workload = Workload("five", tuple((n,) for n in range(5)), ("",) * 5)
    assert workload.groups(1) == [[0], [1], [2], [3], [4]]
    assert workload.groups(2) == [[0, 1], [2, 3], [4, 0]]
    assert workload.groups(7) == [[0, 1, 2, 3, 4, 0, 1]]
