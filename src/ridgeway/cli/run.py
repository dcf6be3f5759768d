"""`ridgeway run`: one prompt, streamed, and the card."""

from typing import Annotated

import typer

from ridgeway.cli import options

DEFAULT_PROMPT = "Explain in three sentences why the sky is blue."


def run(
    prompt: Annotated[
        str | None, typer.Argument(help="What to say to the model; `-` reads it from standard input.")
    ] = None,
    model: options.Model = options.DEFAULT_MODEL,
    method: options.Method = None,
    max_tokens: options.MaxTokens = 128,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    seed: options.Seed = 0,
    raw: options.Raw = False,
    price: options.Price = None,
    executor: options.Executor = "auto",
    threads: options.Threads = None,
    quant: options.Quant = None,
    kv_cache: options.KvCache = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say what the method chose on the way, and why.")] = False,
    json: Annotated[
        str | None,
        typer.Option("--json", help="Write the report as one line of JSON to this file; `-`: last on standard output."),
    ] = None,
) -> None:
    """Generate text from a prompt, and show how far the run was from what this machine allows, and why."""
    from ridgeway.cli.generation import Session, json_target, say, show_card, write_json

    target = json_target(json)
    sampling = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed}
    session = Session(model, method, sampling, executor=executor, threads=threads, quant=quant, kv_cache=kv_cache)
    text = _prompt(prompt, model)
    params = session.params
    how = "greedy" if params.temperature == 0 else f"seed {params.seed}, temperature {params.temperature:g}"
    say(f"> {text}    {how}")
    run = session.generate(session.prompt_ids(text, raw), price, text_to_stderr=json == "-")
    if not run.report.tokens:
        say("no token was generated, so there is nothing to judge")
    else:
        show_card(run)
    if explain:
        for line in run.report.explanation or (f"{session.method.name} makes no choices of its own",):
            say(f"  {line}")
    write_json(run.report, target)
    if run.interrupted:
        raise typer.Exit(130)


def _prompt(prompt: str | None, model: str) -> str:
    import sys

    from ridgeway.models.shipped import SHIPPED

    if prompt == "-":
        return sys.stdin.read().strip()
    if prompt is None:
        return SHIPPED[model].prompt if model in SHIPPED else DEFAULT_PROMPT
    return prompt
