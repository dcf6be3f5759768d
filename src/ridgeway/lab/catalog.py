"""Which models, machines and precisions the page knows, by name.

Names come over a local connection, so they are looked up in tables and never taken for paths or hub ids; files that
the command line named are entered beforehand.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ridgeway.core.errors import ModelError, did_you_mean
from ridgeway.models.known import find_known, find_outline, known_models, outline_of_parameters
from ridgeway.models.outline import Outline
from ridgeway.roofline.hardware import machine, machine_from_file, machine_key, machine_names
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.precision import COMPARED, PRECISIONS, precision
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.this_machine import this_machine

THIS = "this"
AS_RUN = "as run"  # a precision: as the executor of this machine holds the model
GENERIC = ("1b", "8b", "70b")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([mbt])")
_SIZES = {"m": 1e6, "b": 1e9, "t": 1e12}
_KEPT = 64  # predictors


@dataclass(frozen=True)
class Subject:
    """A model at a precision on a machine, by names."""

    model: str
    machine: str
    precision: str


@dataclass
class Catalog:
    """models, machines: files and other arguments of the command line, by the name that the page gives them.
    as_run: gives a predictor of a model that is run here; None where none is.
    """

    models: dict[str, Outline] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    as_run: Callable[[str], Predictor] | None = None
    _predictors: dict[Subject, Predictor] = field(default_factory=dict)

    def enter_model(self, argument: str) -> str:
        """A name, or whatever `ridgeway roof` takes; returns the name under which it is known from then on."""
        if argument in self.models:
            return argument
        if find_known(argument) is not None or _SIZE.fullmatch(argument.lower()):
            return self.outline(argument).name if find_known(argument) else argument.lower()
        outline = find_outline(argument)
        self.models[outline.name] = outline
        return outline.name

    def enter_machine(self, argument: str) -> str:
        """A name, a .toml file, or `this`."""
        if argument == THIS or argument in self.machines:
            return argument
        if argument.endswith(".toml"):
            found = machine_from_file(argument)
            self.machines[found.name] = found
            return found.name
        return machine_key(machine(argument).name) or argument

    def enter_precision(self, argument: str) -> str:
        """A name or alias of `roofline.precision`, or `as run`."""
        return AS_RUN if argument == AS_RUN else precision(argument).name

    def outline(self, name: str) -> Outline:
        """Raises ModelError with the nearest names."""
        if name in self.models:
            return self.models[name]
        size = _SIZE.fullmatch(name.lower())
        if size is not None:
            return outline_of_parameters(float(size[1]) * _SIZES[size[2]])
        known = find_known(name)
        if known is None:
            raise ModelError(name, f"no such model; {did_you_mean(name.lower(), known_models())}")
        return known

    def machine(self, name: str) -> Machine:
        """Raises MachineError with the nearest names."""
        if name in self.machines:
            return self.machines[name]
        return self.this if name == THIS else machine(name)

    @cached_property
    def this(self) -> Machine:
        """Measured the first time, which takes some seconds."""
        return this_machine()

    def predictor(self, subject: Subject) -> Predictor:
        """Kept, as the figures of one page all ask it. Raises RidgewayError for what is not known or has no rate."""
        if subject.precision == AS_RUN:
            if self.as_run is None or subject.machine != THIS:
                raise ModelError(subject.model, f"`{AS_RUN}` is said of {THIS} machine, not of {subject.machine}")
            return self.as_run(subject.model)
        if subject not in self._predictors:
            outline = self.outline(subject.model)
            own = subject.precision == outline.precision
            found = Predictor(
                outline.name,
                outline.config,
                self.machine(subject.machine),
                subject.precision,
                held_bytes=outline.held_bytes if own else None,
            )
            while len(self._predictors) >= _KEPT:
                self._predictors.pop(next(iter(self._predictors)))
            self._predictors[subject] = found
        return self._predictors[subject]

    def described_models(self, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """names: None: all."""
        names = [*self.models, *GENERIC, *known_models()] if names is None else names
        return [self._model(name) for name in dict.fromkeys(names)]

    def described_machines(self, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Those that have a rate to multiply at; names: None: all."""
        names = [*self.machines, THIS, *machine_names()] if names is None else names
        found = [self._machine(name) for name in dict.fromkeys(names)]
        return [row for row in found if row is not None]

    def precisions(self) -> list[dict[str, str]]:
        """The compared ones first, then the rest."""
        names = dict.fromkeys([*COMPARED, *PRECISIONS])
        found = [{"name": name, "note": PRECISIONS[name].note} for name in names]
        here = [{"name": AS_RUN, "note": "as this machine runs it"}] if self.as_run is not None else []
        return found + here

    def _model(self, name: str) -> dict[str, Any]:
        outline = self.outline(name)
        title = f"{name.upper()} model, dense" if _SIZE.fullmatch(name) else name
        return {
            "name": name,
            "title": title,
            "parameters": outline.config.parameters,
            "precision": outline.precision,
            "experts": outline.config.experts is not None,
        }

    def _machine(self, name: str) -> dict[str, Any] | None:
        if name == THIS:
            return {"name": THIS, "title": "this machine", "kind": "this", "year": 0}
        found = self.machine(name)
        if not found.peaks:
            return None
        return {"name": name, "title": found.name, "kind": found.kind, "year": found.year}
