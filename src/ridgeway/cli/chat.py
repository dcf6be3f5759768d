"""`ridgeway chat`: a conversation with history."""

import typer

from ridgeway.cli import options
from ridgeway.core.errors import RequestError


def chat(
    model: options.Model = options.DEFAULT_MODEL,
    method: options.Method = None,
    max_tokens: options.MaxTokens = 512,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    seed: options.Seed = 0,
    executor: options.Executor = "auto",
    threads: options.Threads = None,
    quant: options.Quant = None,
    kv_cache: options.KvCache = None,
    system: str = typer.Option("", "--system", help="What the model is told before the conversation begins."),
) -> None:
    """Talk with a model. Earlier turns are remembered, their K/V reused. Ctrl-D or /exit ends, /reset forgets."""
    from ridgeway.cli.generation import Session, one_line, say

    sampling = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed}
    session = Session(model, method, sampling, executor=executor, threads=threads, quant=quant, kv_cache=kv_cache)
    opening = [{"role": "system", "content": system}] if system else []
    messages = list(opening)
    say(f"{session.llm.model.name}: /reset forgets the conversation, /exit or Ctrl-D ends it")
    while True:
        try:
            text = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            say("")
            return
        if text in ("/exit", "/quit"):
            return
        if text == "/reset":
            messages = list(opening)
            continue
        if not text:
            continue
        messages.append({"role": "user", "content": text})
        try:
            run = session.generate(session.llm.chat_prompt(messages))
        except RequestError as error:
            say(f"{error}; or /reset the conversation")
            messages.pop()
            continue
        messages.append({"role": "assistant", "content": run.text})
        say(one_line(run))
