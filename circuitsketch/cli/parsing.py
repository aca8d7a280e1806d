"""Parse command-line arguments that name runs and measurements.

    TARGET    logistic    microgpt:200,width=8    my_run:make    my_run.py:make:epochs=3      -> a Training
    MEASURE   held_out_loss    loss:max    my_run:loss    my_run.py:margin:3              -> a function

The part before the first colon is a zoo model, a module, or a Python file; the function's name, if needed, and its
arguments follow: Python literals, or else text. A short MEASURE is a function of the zoo model that was
sketched. Code is imported only from what is typed; a sketch's own origin is trusted for zoo models only.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from circuitsketch.errors import CircuitSketchError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from circuitsketch.circuit import Circuit
    from circuitsketch.training.training import Training


class UsageError(InputError):
    """A usage error: an argument that is malformed."""


ZOO = ("microgpt", "logistic", "mlp", "cnn")
MAX_LISTED = 12  # names that an error message lists


@dataclass(frozen=True)
class Call:
    """A function and its arguments, as they were typed.

    >>> parse_call("microgpt:200,width=8", "training")
    Call(module='microgpt', function='training', args=(200,), options={'width': 8})
    >>> parse_call("my_run.py:margin:3", None).function
    'margin'
    """

    module: str
    function: str
    args: tuple[Any, ...]
    options: dict[str, Any]


def parse_call(text: str, of_zoo: str | None) -> Call:
    """Parse a TARGET or MEASURE. of_zoo: the function that the name of a zoo model alone stands for."""
    module, *rest = text.split(":", 2 if of_zoo is None or text.split(":")[0] not in ZOO else 1)
    if of_zoo is not None and module in ZOO:
        function, given = of_zoo, rest
    elif not rest or not rest[0]:
        known = f"a model of the zoo ({', '.join(ZOO)}), or " if of_zoo else ""
        raise UsageError(
            f"{text!r} is not {known}module:function, such as my_run:make or my_run.py:make{suggest_target(module)}"
        )
    else:
        function, *given = rest
    args, options = parse_arguments(given[0]) if given else ((), {})
    return Call(module, function, args, options)


def suggest_target(module: str) -> str:
    """Return a suggestion to append to the error for a target without a function.

    >>> suggest_target("logistc"), suggest_target("my_run.make"), suggest_target("my_run.py")
    ("; did you mean 'logistic'?", "; did you mean 'my_run:make'?", '; say which function, as in my_run.py:make')
    """
    path = Path(module)
    if path.suffix == ".py":
        functions = functions_in(path)
        return f"; say which function, as in {module}:{functions[0] if functions else 'make'}" + (
            f" (it has {', '.join(functions[:MAX_LISTED])})" if len(functions) > 1 else ""
        )
    package, dot, function = module.rpartition(".")
    if dot and package and "/" not in module and function.isidentifier():
        return f"; did you mean '{package}:{function}'?"
    return suggest_name(module, ZOO)


def functions_in(path: Path) -> list[str]:
    """Return the names of the functions of a Python file, without running it; none if it cannot be read."""
    try:
        lines = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError):
        return []
    return [line.name for line in lines if isinstance(line, ast.FunctionDef) and not line.name.startswith("_")]


def parse_arguments(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Parse positional and named arguments.

    >>> parse_arguments("max, 3, channels=(2,4), rate=1e-2")
    (('max', 3), {'channels': (2, 4), 'rate': 0.01})
    """
    args: list[Any] = []
    options: dict[str, Any] = {}
    for part in split_outside_brackets(text):
        name = re.match(r"\s*([A-Za-z_]\w*)\s*=(?!=)", part)
        if name:
            options[name[1]] = literal(part[name.end() :])
        elif options:
            raise UsageError(f"positional argument {part.strip()!r} follows a named argument in {text!r}")
        else:
            args.append(literal(part))
    return tuple(args), options


def split_outside_brackets(text: str) -> list[str]:
    """Split a text at commas outside brackets. UsageError: the brackets do not match."""
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if depth < 0:
            break
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    if depth:
        raise UsageError(f"the brackets in {text!r} do not match; quote arguments with brackets in a shell")
    return parts


def literal(text: str) -> Any:
    """Return the value of a Python literal, or the text itself."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text.strip()


def suggest_name(name: str, known: Sequence[str]) -> str:
    """Return a suggestion to append to the error for an unknown name."""
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


# ------------------------------------------------------------------------------------------ runs, measurements


def load_run(target: str) -> Training:
    """Load the training run that a TARGET names; the target is stored as its origin.

    InputError: the name does not exist, is not a Training, or its function fails (the message has the file and line).
    """
    from circuitsketch.training.training import Training

    run = call_target(target)
    if not isinstance(run, Training):
        raise InputError(f"{target} returns a {type(run).__name__}; it must return a cs.Training")
    run.origin = target
    return run


def load_circuit_or_run(target: str) -> Training | Circuit:
    """Load the run or the circuit that a TARGET names."""
    from circuitsketch.circuit import Circuit
    from circuitsketch.training.training import Training

    target_object = call_target(target)
    if not isinstance(target_object, Training | Circuit):
        kind = type(target_object).__name__
        raise InputError(f"{target} returns a {kind}; it must return a cs.Training or a cs.Circuit")
    return target_object


def call_target(target: str) -> Any:
    """Call the function that a TARGET names, and return its result."""
    call = parse_call(target, "training")
    module = import_named(call.module, target)
    target_object = get_attribute(module, call.function, target)
    if not callable(target_object):
        if call.args or call.options:
            raise InputError(f"{target}: {call.function} is not a function, so it takes no arguments")
        return target_object
    with report_user_error(target, target_object):
        return target_object(*call.args, **call.options)


def load_measurement(text: str, origin: str | None) -> Callable[..., Any]:
    """Load the function of the trained parameters that a MEASURE names.

    origin: the sketch's TARGET, if it is known; short names refer to its zoo model.
    """
    model = (origin or "").split(":")[0]
    first = text.split(":")[0]
    if model in ZOO and first not in ZOO:
        module = importlib.import_module(f"circuitsketch.zoo.{model}")
        elsewhere = Path(first).suffix == ".py" or not first.isidentifier() or module_exists(first)
        if hasattr(module, first) or not elsewhere:
            text = f"{model}:{text}"
    call = parse_call(text, None) if ":" in text else None
    if call is None:
        raise UsageError(
            f"{text!r} is not module:function, such as my_run:loss or logistic:held_out_loss; short names are allowed "
            "only for sketches of zoo models (if this is such a sketch, give --target)"
        )
    function = get_attribute(import_named(call.module, text), call.function, text, takes="params")
    if not callable(function):
        raise InputError(f"{text} is a {type(function).__name__}, not a function of the trained parameters")

    def measure(params: Any) -> Any:
        with report_user_error(text, function):
            value = function(params, *call.args, **call.options)
        if value is None or isinstance(value, str):
            raise InputError(f"{text} returns {value!r}; a measurement is a number, or an array of them")
        return value

    return measure


def module_exists(name: str) -> bool:
    """Return whether a module of this name is in the working folder or installed; importing it may still fail."""
    add_working_folder()
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as reason:  # a package on the way to it, or what such a package imports
        return not f"{name}.".startswith(f"{reason.name}.")
    except Exception:
        return True


def add_working_folder() -> None:
    """Add the working folder to the import path, as `python -m` does."""
    try:
        folder = str(Path.cwd())
    except OSError:  # the current folder was deleted: there are no modules in it
        return
    if "" not in sys.path and folder not in sys.path:
        sys.path.insert(0, folder)


def import_named(name: str, text: str) -> ModuleType:
    """Import a zoo model, a module, or a file by its name."""
    if name in ZOO:
        return importlib.import_module(f"circuitsketch.zoo.{name}")
    add_working_folder()
    if name.endswith(".py"):
        return import_file(Path(name), text)
    if not module_exists(name):
        hint = suggest_name(name, ZOO) or (f"; give the file itself, {name}.py" if "/" in name else "")
        raise InputError(
            f"{text}: there is no module {name} in the current folder or among the installed packages{hint}"
        )
    with report_user_error(text, None):
        return importlib.import_module(name)


def import_file(path: Path, text: str) -> ModuleType:
    """Import a file as a module, once."""
    if not path.is_file():
        raise InputError(f"{text}: there is no file {path}; check the path")
    name = re.sub(r"\W", "_", path.stem)
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(path.resolve()):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with report_user_error(text, None):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def get_attribute(module: ModuleType, name: str, text: str, takes: str = "") -> Any:
    """Return an attribute of a module; the error lists its functions, those with a first parameter `takes` first."""
    if not hasattr(module, name):
        functions = {key: f for key, f in inspect.getmembers(module, inspect.isfunction) if not key.startswith("_")}
        own = [key for key, function in functions.items() if function.__module__ == module.__name__]
        own = [key for key in own if parameter_names(functions[key])[:1] == [takes]] or own
        shown = f"; it has {', '.join(own[:MAX_LISTED])}" if own else ""
        file = Path(module.__file__ or "?").name
        raise InputError(f"{text}: {file} has no {name}{suggest_name(name, own) or shown}")
    return getattr(module, name)


@contextmanager
def report_user_error(text: str, function: Any) -> Iterator[None]:
    """Turn an exception of the user's code into an InputError with its file and line; our own errors pass unchanged.

    For wrong arguments, the message lists the function's parameters.
    """
    try:
        yield
    except CircuitSketchError:
        raise
    except SystemExit as reason:
        raise InputError(f"{text} exited the program ({reason!r}) instead of returning a value") from None
    except ModuleNotFoundError as reason:
        raise InputError(f"{text} needs the module {reason.name}, which is not installed") from None
    except Exception as reason:
        frames = traceback.extract_tb(reason.__traceback__)[1:]
        refused = len(frames) == 1 or (is_from_zoo(function) and "argument" in str(reason))  # no line of it was run
        if isinstance(reason, TypeError) and refused and function is not None:
            takes = ", ".join(parameter_names(function)) or "nothing"
            raise InputError(f"{text}: {reason}; it takes {takes}") from None
        theirs = [frame for frame in frames if not is_internal(frame.filename)] or frames
        if isinstance(reason, SyntaxError):
            where = f" at {Path(reason.filename or '?').name}:{reason.lineno}"
        else:
            where = f" at {Path(theirs[-1].filename).name}:{theirs[-1].lineno}" if theirs else ""
        raise InputError(f"{text} failed{where}: {type(reason).__name__}: {reason}") from reason


def parameter_names(function: Any) -> list[str]:
    """Return the names of a function's parameters, including those that a zoo model passes to `supervised.training`."""
    known = inspect.signature(function).parameters
    names = [name for name, one in known.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    if len(names) < len(known) and is_from_zoo(function):
        from circuitsketch.zoo import supervised

        passed_on = inspect.signature(supervised.training).parameters.values()
        names += [one.name for one in passed_on if one.kind == one.KEYWORD_ONLY and one.name not in names]
    return names


def is_from_zoo(function: Any) -> bool:
    """Return whether a function is of a zoo model, which may pass on its arguments."""
    return str(getattr(function, "__module__", "")).startswith("circuitsketch.zoo.")


def is_internal(file: str) -> bool:
    """Return whether a frame is of Python's imports, an installed package or this one, not of the user's program."""
    package = Path(__file__).parents[1]
    zoo = package / "zoo"
    inside = package in Path(file).parents and zoo not in Path(file).parents
    return file.startswith("<frozen") or "site-packages" in file or file == importlib.__file__ or inside
