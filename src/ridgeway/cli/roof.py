"""`ridgeway roof`: what any model would do on any machine, and how good such predictions are."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ridgeway.cli import options

if TYPE_CHECKING:
    from ridgeway.models.outline import Outline
    from ridgeway.roofline.decoding import Decoding
    from ridgeway.roofline.machine import Machine

THIS = "this"


def roof(
    model: Annotated[
        str | None,
        typer.Argument(help="A well-known name (llama-3.1-8b), a config.json, a folder, a .gguf file, or a hub id."),
    ] = None,
    on: Annotated[
        str, typer.Option("--on", help="A machine of the table (h100), a .toml file, or `this` one, measured.")
    ] = THIS,
    devices: Annotated[int, typer.Option("--devices", help="So many of them, each with a part of every matrix.")] = 1,
    params: Annotated[
        float | None, typer.Option("--params", help="Instead of a model: a number of weights, 8e9.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", "--precision", help="bf16, int8, llm.int8, 4-bit, fp8, Q4_K_M ... By default several."),
    ] = None,
    prompt: Annotated[int, typer.Option("--prompt", help="Tokens of a prompt.")] = 512,
    output: Annotated[int, typer.Option("--output", help="Tokens of an answer.")] = 256,
    batch: Annotated[int, typer.Option("--batch", "--concurrency", help="Requests at once.")] = 1,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="NAME or NAME:key=value,... with its assumptions; may be repeated."),
    ] = None,
    acceptance: Annotated[
        float | None,
        typer.Option("--acceptance", help="Chance that a draft is accepted, 0 to 1; by default each method's."),
    ] = None,
    draft: Annotated[str | None, typer.Option("--draft", help="A draft model, whose cost is then computed.")] = None,
    engine: Annotated[str, typer.Option("--engine", help="llama.cpp, compiled, server or eager; by default any.")] = "",
    kv_bits: Annotated[int, typer.Option("--kv-bits", help="Bits of a cached number: 8, 16 or 32.")] = 16,
    skew: Annotated[float | None, typer.Option("--skew", help="How unevenly experts are chosen; 0 is uniform.")] = None,
    price: options.Price = None,
    sweep: Annotated[
        str | None,
        typer.Option("--sweep", help="Vary one thing: batch=1..512, or what the first --method assumes."),
    ] = None,
    compare: Annotated[str | None, typer.Option("--compare", help="Other machines too: h100,h200,l4.")] = None,
    json: Annotated[
        str | None,
        typer.Option("--json", help="Write everything as one line of JSON to this file; `-`: last on standard output."),
    ] = None,
    plot: Annotated[
        str | None, typer.Option("--plot", help="Draw the roofline with every workload to this .svg file.")
    ] = None,
    validate: Annotated[
        str | None, typer.Option("--validate", help="Predict the published measurements of a .csv file, and report.")
    ] = None,
) -> None:
    """Predict a model on a machine: how fast, why not faster, what would help. No weights are needed."""
    from ridgeway.cli.generation import json_target

    if validate is not None:
        from ridgeway.cli.validation_report import report

        report(validate, json_target(json))
        return
    from ridgeway.cli import roof_tables
    from ridgeway.core.errors import RequestError
    from ridgeway.roofline.workload import Workload

    if kv_bits not in (8, 16, 32):
        raise RequestError(f"--kv-bits {kv_bits}: expected 8, 16 or 32")
    workload = Workload(prompt, output, batch, price)
    outline = _outline(model, params)
    chosen = _methods(method or [], acceptance)
    names = [on, *(compare.split(",") if compare else [])]
    machines = [_machine(name.strip(), devices) for name in dict.fromkeys(names) if name.strip()]
    if compare and on == THIS:
        machines = machines[1:]
    asked = roof_tables.Asked(
        outline=outline,
        workload=workload,
        machines=machines,
        methods=chosen,
        precisions=[dtype] if dtype else [],
        engine=_engine(engine),
        kv_itemsize=kv_bits // 8,
        skew=skew,
        as_run=on == THIS and not dtype and devices == 1 and model is not None,
        draft=None if draft is None else _outline(draft, None),
        argument=model or "",
    )
    target = json_target(json)
    roof_tables.show(asked, sweep=sweep, compare=bool(compare), plot=plot, target=target)


def _outline(model: str | None, params: float | None) -> "Outline":
    from ridgeway.core.errors import RequestError
    from ridgeway.models.known import find_outline, outline_of_parameters

    if (model is None) == (params is None):
        raise RequestError(
            "roof needs a model or --params, one of the two; such as: ridgeway roof llama-3.1-8b --on h100"
        )
    if params is not None:
        return outline_of_parameters(params)
    assert model is not None
    return find_outline(model)


def _machine(name: str, devices: int) -> "Machine":
    from ridgeway.roofline.hardware import machine, machine_from_file
    from ridgeway.roofline.this_machine import this_machine

    if name == THIS:
        return this_machine().times(devices)
    found = machine_from_file(name) if name.endswith(".toml") else machine(name)
    return found.times(devices)


def _methods(asked: list[str], acceptance: float | None) -> "list[Decoding]":
    from dataclasses import fields, replace

    from ridgeway.core.errors import MethodError
    from ridgeway.roofline.decoding import DECODINGS, parse_decoding

    found = [parse_decoding(text) for text in asked] or [kind() for kind in DECODINGS.values()]
    if acceptance is None:
        return found
    if not 0 <= acceptance <= 1:
        raise MethodError(f"--acceptance {acceptance:g}: expected 0 to 1")
    change: dict[str, Any] = {"acceptance": acceptance}
    return [
        replace(method, **change) if "acceptance" in {field.name for field in fields(method)} else method
        for method in found
    ]


def _engine(name: str) -> str:
    from ridgeway.core.errors import RequestError, did_you_mean
    from ridgeway.roofline.engines import FAMILIES

    if name and name not in FAMILIES:
        raise RequestError(f"--engine {name}: {did_you_mean(name, FAMILIES)}")
    return name
