"""The command line: one hydra application for each command.

    metaprune COMMAND [key=value ...] [--import MODULE] [--multirun] [--help]

A command is a module of `metaprune.cli.commands` with a function `run(config)`, and a file of the
same name in `conf/`. Errors are one sentence without a traceback; HYDRA_FULL_ERROR=1 shows it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from math import nan
from typing import Any

from metaprune.packages import CONF
from metaprune.version import __version__

COMMANDS = {
    "prune": "prune a trained network and compare with the baselines",
    "stream": "prune a language model by masks, one block in memory at a time",
    "apply": "carry out a plan on a network, and measure it",
    "recover": "train a pruned network further, masks exact",
    "inspect": "show what may be pruned, what is left alone and why, and what is reachable",
    "evaluate": "measure a network, dense or pruned: accuracy or perplexity, MACs, latency",
    "zoo": "train a zoo of small networks for a metanetwork to learn from",
    "triples": "measure what budgets do to the networks of a zoo",
    "train": "train a metanetwork on a zoo",
    "demo": "train, prune and compare small networks in under three minutes",
}

LISTS = ("models", "data", "rules", "solvers", "patterns", "metanets")
"""What can be listed by name (`metaprune.cli.lists`)."""

HELP = """metaprune {version}: makes PyTorch networks smaller and faster

usage: metaprune COMMAND [key=value ...]

{commands}
  {lists}  list what there is

Settings are hydra overrides, for example
  metaprune prune model=resnet20 data=cifar10 data.path=DIR target.speedup=2
  metaprune prune --multirun seed=0,1,2
  metaprune prune --help        what can be set, with its defaults
  metaprune prune --cfg job     the settings that would be used
  metaprune prune --import my_pattern pattern=band    with what a module of yours registers
HYDRA_FULL_ERROR=1 shows the traceback of an error."""

FLAGS = {"--json": "json=true"}
"""Plain flags, and the override each stands for."""

CONTINUE = ("stream", "zoo", "triples", "train")
"""Commands that continue in the folder that their settings name."""

COMPLETION, COMPLETE = "--completion", "--complete"
"""The flag that prints a shell's script of completion, and the one that the scripts ask by."""

IMPORT = "--import"
"""The flag before the name of a module that registers something of the user's own."""


def help_text() -> str:
    """The screen that `metaprune --help` shows."""
    commands = "\n".join(f"  {name:<10}{line}" for name, line in COMMANDS.items())
    return HELP.format(version=__version__, commands=commands, lists=" | ".join(LISTS))


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; leaves by SystemExit with code 1 (it failed) or 2 (it was not understood).

    Args:
        argv: arguments after the program's name; those of the process when None.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    own = threading.current_thread() is threading.main_thread()
    FOLDERS.clear()
    numbers = (signal.SIGTERM, signal.SIGINT) if own else ()
    before = {number: signal.signal(number, _stop) for number in numbers}
    try:
        _command(arguments)
    except KeyboardInterrupt as error:
        word, code = ("stopped", 143) if isinstance(error, Stopped) else ("interrupted", 130)
        name = " ".join(["metaprune", *arguments[:1]])
        sys.stderr.write(f"{name}: {word}; nothing is half-written{_again(arguments)}\n")
        raise SystemExit(code) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _command(arguments: list[str]) -> None:
    """What the arguments ask for; leaves by SystemExit where that fails."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(help_text() + "\n")
        return
    if arguments[0] in ("-V", "--version"):
        sys.stdout.write(f"metaprune {__version__}\n")
        return
    if arguments[0] in (COMPLETION, COMPLETE):
        _complete(*arguments)
        return
    command, *overrides = arguments
    if command in LISTS:
        _list(command, overrides)
        return
    if command not in COMMANDS:
        near = get_close_matches(command, [*COMMANDS, *LISTS], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(COMMANDS)}"
        sys.stderr.write(f"metaprune: there is no command {command!r}; {hint}\n")
        raise SystemExit(2)
    if {"-h", "--help"} & set(overrides):
        from metaprune.cli.help import command_help

        sys.stdout.write(command_help(command) + "\n")
        return
    modules, overrides = split_imports(overrides)
    for module in modules:
        _import(command, module)
    _run(command, [FLAGS.get(argument, argument) for argument in overrides], modules)


def _complete(flag: str, *rest: str) -> None:
    """Print what a shell reads to complete commands, or what may stand at the end of a line.

    Raises:
        SystemExit: a shell that there is no script for; code 2.
    """
    from metaprune.cli.completion import SCRIPTS, complete

    if flag == COMPLETE:
        found = complete(" ".join(rest), COMMANDS, LISTS)
        sys.stdout.write("".join(f"{one}\n" for one in found))
        return
    shell = rest[0] if len(rest) == 1 else ""
    if shell not in SCRIPTS:
        sys.stderr.write(
            f"metaprune {COMPLETION} takes one of {', '.join(SCRIPTS)} (got {' '.join(rest)!r})\n"
        )
        raise SystemExit(2)
    sys.stdout.write(SCRIPTS[shell])


def _list(name: str, arguments: Sequence[str]) -> None:
    """Print what there is, with what modules of the user's own register.

    Raises:
        SystemExit: another argument than such modules; code 2.
    """
    modules, rest = split_imports(arguments)
    if rest:
        sys.stderr.write(
            f"metaprune {name}: it takes no settings (got {rest[0]!r}), only {IMPORT} MODULE\n"
        )
        raise SystemExit(2)
    for module in modules:
        _import(name, module)
    from metaprune.cli.lists import show

    show(name)


def split_imports(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The modules to import, and the arguments without them."""
    modules, rest, left = [], [], iter(arguments)
    for argument in left:
        flag, equals, name = argument.partition("=")
        if flag != IMPORT:
            rest.append(argument)
        else:
            modules.append(name if equals else next(left, ""))
    return modules, rest


def _import(command: str, module: str) -> None:
    """Import a module of the user's own, from the folder of the call too.

    Raises:
        SystemExit: there is no such module; code 2.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        import_module(module)
    except (ImportError, ValueError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.stderr.write(
            f"metaprune {command}: {IMPORT} takes the name of a module, such as my_pattern for "
            f"my_pattern.py in this folder; {module!r} cannot be imported ({error})\n"
        )
        raise SystemExit(2) from None


def _run(command: str, overrides: list[str], modules: Sequence[str] = ()) -> None:
    """Hand the command to hydra, as its `main` decorator would from a script."""
    import hydra

    from metaprune.cli import sweep
    from metaprune.cli.overrides import SEVERAL, check_overrides, fixed_names

    try:
        check_overrides(command, overrides)
    except ValueError as error:
        sys.stderr.write(f"metaprune {command}: {sentence(error)}\n")
        raise SystemExit(1) from None
    if set(SEVERAL) & set(overrides):
        overrides = [*overrides, sweep.naming(fixed_names(overrides))]
    sys.argv = [f"metaprune {command}", *overrides]
    start = hydra.main(version_base="1.3", config_path=str(CONF), config_name=command)
    start(_guarded(command, modules))()


class Stopped(KeyboardInterrupt):
    """The process was asked to end (SIGTERM); unlike Ctrl-C not by a person at the keyboard."""


def _stop(number: int, _frame: Any) -> None:
    """End the command; before it begins nothing is being made, and libraries do not bear errors."""
    if FOLDERS:
        raise Stopped if number == signal.SIGTERM else KeyboardInterrupt
    sys.stderr.write("metaprune: stopped before anything was done\n")
    sys.stderr.flush()
    os._exit(128 + number)


FOLDERS: list[str] = []
"""Folders of the runs of this process."""


def _again(arguments: Sequence[str]) -> str:
    """How an interrupted command continues, as the end of a sentence."""
    if set(arguments[:1]) & set(CONTINUE):
        return ", and the same command continues"
    if arguments[:1] == ["prune"] and FOLDERS:
        return f", and the same command continues with hydra.run.dir='{FOLDERS[-1]}'"
    return ""


def _guarded(command: str, modules: Sequence[str] = ()) -> Callable[[Any], Any]:
    """The command's function, with errors as sentences; one point of a sweep ends no others.

    Args:
        command: its name.
        modules: of the user's own, which the processes of a launcher import anew.
    """

    def task(config: Any) -> Any:
        from hydra.core.hydra_config import HydraConfig

        from metaprune.cli import sweep

        FOLDERS.append(HydraConfig.get().runtime.output_dir)
        for module in modules:
            _import(command, module)
        try:
            found = import_module(f"metaprune.cli.commands.{command}").run(config)
        except Exception as error:
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            said = f"metaprune {command}: {sentence(error)}"
            if sweep.swept():
                sys.stderr.write(f"{said}\n")
                sweep.note(sentence(error))
                return nan
            raise SystemExit(f"{said}\n(HYDRA_FULL_ERROR=1 shows where this came from)") from error
        if sweep.swept():
            sweep.note(None)
        return found

    return task


def sentence(error: Exception) -> str:
    """An error as a person reads it: its message, with its type where that says more.

    Errors that the code raises to speak to people are of types that name a bad value, a missing
    file or a failed model; anything else is named.
    """
    if isinstance(error, ModuleNotFoundError):
        from metaprune.cli.extras import remedy

        if (said := remedy(error)) is not None:
            return said
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, (ValueError, OSError, RuntimeError, ImportError, FloatingPointError)):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}"
