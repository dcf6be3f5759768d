"""Chat templates: what turns a conversation into the text that a model was trained on.

A template is a Jinja program out of a checkpoint, so it runs in Jinja's immutable sandbox. The environment is
the one that templates are written for: that of transformers (`apply_chat_template`).
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ridgeway.core.errors import ModelError, RequestError

if TYPE_CHECKING:
    from jinja2 import Template


class ChatTemplate:
    """A compiled template. variables: what it may refer to beside the messages, such as `bos_token`."""

    def __init__(self, source: str, template: str, variables: Mapping[str, Any]) -> None:
        self._source = source
        self._text = template
        self._variables = dict(variables)
        self._compiled: Template | None = None

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The conversation as text. Raises RequestError if the template refuses it or fails."""
        from jinja2 import TemplateError

        template = self._compiled = self._compiled or _compile(self._source, self._text)
        given = {"tools": None, "documents": None, **self._variables, **variables}
        try:
            return template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                **given,
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise RequestError(f"the model's chat template refuses this conversation: {error}") from error


def _compile(source: str, text: str) -> "Template":
    from jinja2 import TemplateError, TemplateSyntaxError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationBlocks(Extension):
        """`{% generation %}` marks what the assistant wrote, for training; here it is only text."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlocks, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    try:
        return environment.from_string(text)
    except (TemplateSyntaxError, RecursionError) as error:
        raise ModelError(source, f"the chat template is not valid Jinja: {error}") from error
