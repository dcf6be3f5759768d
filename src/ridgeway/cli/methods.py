"""`ridgeway methods`: what there is, and what each needs."""

from typing import Annotated

import typer


def methods(
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="Say also which of them can run this model.")
    ] = None,
) -> None:
    """List the decoding methods, what each needs, and its options."""
    from inspect import getdoc

    from rich.console import Console
    from rich.table import Table

    from ridgeway.core.traits import ModelTraits
    from ridgeway.methods.registry import METHODS, default_method, options_of

    traits = None
    if model is not None:
        from ridgeway.models.loading import load_model

        traits = load_model(model).config.traits
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (
        "method",
        "what it does",
        "needs",
        "options",
        "text",
        *(["this model"] if traits else []),
    ):
        table.add_column(heading)
    default = default_method(traits or ModelTraits(vocab_size=1, max_positions=1))  # of a causal model
    for name, method in METHODS.items():
        options = ", ".join(f"{key}={default}" if default else key for key, default in options_of(method).items())
        row = [
            f"{name} (default)" if name == default else name,
            (getdoc(method) or "").split("\n")[0].rstrip("."),
            method.needs,
            options or "none",
            "as plain decoding's" if method.lossless else "another distribution",
        ]
        if traits is not None:
            row.append(method().refusal(traits) or "yes")
        table.add_row(*row)
    Console().print(table)
    typer.echo("\nOne of your own: --method ./mine.py:Mine (examples/my_method.py shows how)")
