import json
from pathlib import Path
from typing import Any

import pytest
from texts import train_byte_level
from tokenizers import pre_tokenizers

from ridgeway.core.errors import ModelError, RequestError
from ridgeway.models.tokenizer import Tokenizer

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Grüße <b>&'\"\n"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "And?"},
]
TEMPLATES = {
    "chatml": (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "blocks are trimmed": (
        "{{ bos_token }}\n  {% for m in messages %}\n    {{ m.content }}\n  {% endfor %}\n{{ eos_token }}"
    ),
    "loop controls": "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "generation blocks": (
        "{% for m in messages %}{% generation %}{% set x = m.content %}{{ x }}{% endgeneration %}{% endfor %}"
    ),
    "tojson": "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}",
    "tools": (
        "{% if tools is not none %}{{ tools | tojson }}{% else %}no tools{% endif %}{{ thinking | default('off') }}"
    ),
    "namespace": (
        "{%- set ns = namespace(last='') %}{%- for m in messages -%}"
        "{%- set ns.last = m.role %}{%- endfor -%}{{ ns.last }}"
    ),
}  # fmt: skip


def with_template(template: str | None) -> Tokenizer:
    return Tokenizer(
        train_byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)),
        chat_template=template,
        special={"bos_token": "<s>", "eos_token": "</s>"},
        source="tokenizer.json",
    )


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize(
    "options", [{}, {"add_generation_prompt": False}, {"tools": [{"name": "é"}], "thinking": "on"}]
)
def test_a_conversation_is_rendered_as_transformers_renders_it(name: str, options: dict[str, Any]) -> None:
    from transformers import PreTrainedTokenizerFast

    ours = with_template(TEMPLATES[name])
    theirs = PreTrainedTokenizerFast(tokenizer_object=ours.backend, bos_token="<s>", eos_token="</s>")
    theirs.chat_template = TEMPLATES[name]
    expected = theirs.apply_chat_template(TALK, tokenize=False, **{"add_generation_prompt": True, **options})
    assert ours.apply_chat_template(TALK, **options) == expected
    assert ours.chat_ids(TALK, **options) == theirs(expected, add_special_tokens=False)["input_ids"]


def test_a_template_may_refuse_a_conversation() -> None:
    tokenizer = with_template("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(RequestError, match="refuses this conversation: roles must alternate"):
        tokenizer.apply_chat_template(TALK)


def test_a_message_without_content_is_a_request_error() -> None:
    with pytest.raises(RequestError, match="content"):
        with_template("{{ messages[0]['content'] + '' }}").apply_chat_template([{"role": "user"}])


def test_a_model_without_a_template_says_so() -> None:
    assert not with_template(None).has_chat_template
    with pytest.raises(RequestError, match="no chat template"):
        with_template(None).apply_chat_template(TALK)


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ [1] | map(attribute='__class__') | list | first | attr('__base__') }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(attack: str) -> None:
    try:
        text = with_template(attack).apply_chat_template(TALK)
    except RequestError:
        return
    assert text == ""  # what the sandbox hides is undefined, which shows as nothing


def test_a_template_that_is_no_jinja_is_named_with_its_file() -> None:
    with pytest.raises(ModelError, match=r"^tokenizer\.json: the chat template is not valid Jinja"):
        with_template("{% for %}").apply_chat_template(TALK)


def test_a_template_may_be_in_a_file_of_its_own_or_among_several(tmp_path: Path) -> None:
    train_byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)).save(str(tmp_path / "tokenizer.json"))
    several = [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer is not None
    assert tokenizer.apply_chat_template(TALK) == "one"
    (tmp_path / "chat_template.jinja").write_text("three")
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer is not None
    assert tokenizer.apply_chat_template(TALK) == "three"
