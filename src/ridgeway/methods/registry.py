"""Methods by name: `NAME`, `NAME:key=value,key=value`, or `FILE.py:CLASS` for one of your own."""

import dataclasses
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import get_type_hints

from ridgeway.core.errors import MethodError, did_you_mean
from ridgeway.core.method import DecodingMethod
from ridgeway.core.traits import ModelTraits
from ridgeway.methods.auto import Auto
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.methods.block_diffusion import BlockDiffusion
from ridgeway.methods.diffusion import Diffusion
from ridgeway.methods.draft_head import DraftHead
from ridgeway.methods.draft_model import Draft
from ridgeway.methods.lookahead import Lookahead
from ridgeway.methods.ngram import NGram
from ridgeway.methods.option_types import from_text
from ridgeway.methods.recycling import Recycling
from ridgeway.methods.self_speculative import SelfSpeculative
from ridgeway.methods.suffix import Suffix
from ridgeway.methods.verified_diffusion import VerifiedDiffusion

METHODS: Mapping[str, type[DecodingMethod]] = {
    cls.name: cls
    for cls in (
        Autoregressive,
        Auto,
        NGram,
        Suffix,
        Recycling,
        Lookahead,
        SelfSpeculative,
        Draft,
        DraftHead,
        VerifiedDiffusion,
        BlockDiffusion,
        Diffusion,
    )
}


def default_method(traits: ModelTraits) -> str:
    """What decodes a model of these traits if nobody says otherwise: of a causal model `auto`, which drafts only where
    that pays and never changes the text; else the plainest method that can run it, or could if told the mask token.
    """
    usual = {cls.name: _usable_as(cls, traits) for cls in (Auto, BlockDiffusion, Diffusion)}
    as_it_is = (name for name, spec in usual.items() if spec == name)
    return next(as_it_is, next((name for name, spec in usual.items() if spec), Autoregressive.name))


def make_method(spec: "str | DecodingMethod | type[DecodingMethod]") -> DecodingMethod:
    """The method that `spec` names; objects and classes are taken as they are. Raises MethodError."""
    if isinstance(spec, DecodingMethod):
        return spec
    if inspect.isclass(spec) and issubclass(spec, DecodingMethod):
        return _build(spec, spec.name, {})
    if not isinstance(spec, str):
        raise MethodError(f"a method is a name or a DecodingMethod, not {type(spec).__name__}")
    head, _, rest = spec.partition(":")
    if head.endswith(".py"):
        class_name, _, options = rest.partition(":")
        return _build(_load(Path(head), class_name), class_name, _parse(spec, options))
    if head not in METHODS:
        raise MethodError(
            f"there is no method {head!r}: {did_you_mean(head, METHODS)}; "
            "`ridgeway methods` lists them, and FILE.py:CLASS takes one of your own"
        )
    return _build(METHODS[head], head, _parse(spec, rest))


def options_of(method: type[DecodingMethod]) -> dict[str, str]:
    """Each option of a method with its default, as text."""
    options = {}
    for name, parameter in inspect.signature(method).parameters.items():
        options[name] = "" if parameter.default in (inspect.Parameter.empty, None) else str(parameter.default)
    return options


def check_fit(method: DecodingMethod, traits: ModelTraits) -> None:
    """Raise MethodError, naming the built-in methods that would do, if `method` cannot run such a model."""
    refusal = method.refusal(traits)
    if refusal is None:
        return
    usable = [spec for cls in METHODS.values() if (spec := _usable_as(cls, traits)) is not None]
    instead = f"this model can use: {', '.join(usable)}" if usable else "no built-in method can use this model"
    if method.name in usable:
        instead = f"this model can use {method.name} without that option"
    raise MethodError(f"method {method.name!r} cannot run this model: {refusal}; {instead}")


def _usable_as(method: type[DecodingMethod], traits: ModelTraits) -> str | None:
    """How to name `method` so that it can run such a model; None if it cannot."""
    if method().refusal(traits) is None:
        return method.name
    if "mask_id" in options_of(method) and method(mask_id=0).refusal(traits) is None:  # type: ignore[call-arg]
        return f"{method.name}:mask_id=ID"
    return None


def _parse(spec: str, text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise MethodError(f"method {spec!r}: expected key=value after the colon, not {part!r}")
        if key.strip() in options:
            raise MethodError(f"method {spec!r}: {key.strip()} is given twice")
        options[key.strip()] = value.strip()
    return options


def _build(method: type[DecodingMethod], name: str, options: dict[str, str]) -> DecodingMethod:
    known = inspect.signature(method).parameters
    for key in options:
        if key not in known:
            takes = did_you_mean(key, known) if known else "it takes none"
            raise MethodError(f"method {name!r} has no option {key!r}: {takes}")
    hints = get_type_hints(method) if dataclasses.is_dataclass(method) else get_type_hints(method.__init__)
    try:
        return method(**{key: from_text(key, text, hints.get(key, str)) for key, text in options.items()})
    except (TypeError, ValueError) as error:
        raise MethodError(f"method {name!r}: {error}") from error


def _load(path: Path, class_name: str) -> type[DecodingMethod]:
    """Class `class_name` of the Python file `path`, which is executed: it is the user's own."""
    if not path.is_file():
        raise MethodError(f"there is no file {path}; a method of your own is named FILE.py:CLASS")
    if not class_name:
        raise MethodError(f"{path}: say which class, as in {path}:MyMethod")
    spec = importlib.util.spec_from_file_location(f"ridgeway_user_method_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise MethodError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    found = getattr(module, class_name, None)
    if not (inspect.isclass(found) and issubclass(found, DecodingMethod)):
        here = [n for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, DecodingMethod)]
        here = [name for name in here if name != "DecodingMethod"]
        raise MethodError(f"{path} has no method class {class_name!r}; it has: {', '.join(here) or 'none'}")
    return found
