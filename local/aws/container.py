"""A Lambda container in this process: a function loaded as Lambda loads it, with its own copy of its modules."""

from __future__ import annotations

import builtins
import functools
import gc
import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CellType, FunctionType, ModuleType
from typing import Any

import psycopg

from local.aws.template import properties, timeout

ROOT = Path(__file__).parents[2]
REGION, ACCOUNT = "eu-west-1", "123456789012"
# Powertools too: it keeps its metrics and the cold start in its modules.
OWN = frozenset({"app", "sms_retry", "aws_lambda_powertools"})
BEGINNINGS = tuple(OWN)


def load(function: str, root: Path = ROOT) -> Handler:
    """A new container of `functions/<function>/app.py`, with its modules imported.

    Lambda's environment variables are set if they are unset. The process has one environment, so the name and the
    memory are those of the function that was loaded last. Exceptions of the import are not caught.
    """
    declared = properties(root / "template.yaml", function)
    memory = str(declared.get("MemorySize", 128))
    os.environ |= {"AWS_LAMBDA_FUNCTION_NAME": function, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": memory}
    for name, value in _environment(declared).items():
        os.environ.setdefault(name, value)
    layer = str(root / "layers" / "sms_retry" / "python")
    if layer not in sys.path:
        sys.path.append(layer)
    modules = _Modules([str(root / "functions" / function), layer, *sys.path])
    with modules.installed(), _own_loggers():
        entry = importlib.import_module("app").lambda_handler
    return Handler(function, memory, timeout(root / "template.yaml", function), entry, modules)


@dataclass(frozen=True)
class Handler:
    """One container of a function. It handles one event at a time; other callers wait."""

    function: str
    memory: str
    timeout: int
    _entry: Callable[[Any, LambdaContext], object]
    _modules: _Modules
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: object, timeout_seconds: float | None = None, request_id: str | None = None) -> Any:
        """Invoke the function and return its answer; event and answer pass through JSON. Its exceptions are not caught.
        Lambda repeats an invocation with the same `request_id`.

        Raises TimeoutError if it took longer than its timeout: Lambda would have killed it before it returned.
        """
        limit = self.timeout if timeout_seconds is None else timeout_seconds
        with self._busy, _signals_restored():
            given = {"aws_request_id": request_id} if request_id else {}
            context = LambdaContext(self.function, self.memory, time.monotonic() + limit, **given)
            answer = json.dumps(self._entry(json.loads(json.dumps(event)), context))
        if time.monotonic() > context.deadline:
            raise TimeoutError(f"{self.function} took longer than its timeout of {limit} seconds.")
        return json.loads(answer)

    def close(self) -> None:
        """Close its connections to Postgres, as Lambda does when it ends a container."""
        with self._busy:
            for reached in self._modules.reachable():
                if isinstance(reached, psycopg.Connection):
                    reached.close()


@dataclass(frozen=True)
class LambdaContext:
    """The second argument of a handler, as Lambda makes it. `deadline` is of `time.monotonic()`."""

    function_name: str
    memory_limit_in_mb: str
    deadline: float
    function_version: str = "1"
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    identity: None = None
    client_context: None = None

    @property
    def invoked_function_arn(self) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.function_name}:live"

    @property
    def log_group_name(self) -> str:
        return f"/aws/lambda/{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.monotonic()) * 1000))


def _environment(declared: dict[str, Any]) -> dict[str, str]:
    """The variables that Lambda sets, and those of the template that have a literal value."""
    variables = declared.get("Environment", {}).get("Variables", {})
    return {
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{declared.get('Runtime', 'python3.13')}",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    } | {name: str(value) for name, value in variables.items() if not isinstance(value, Mapping)}


@contextmanager
def _own_loggers() -> Iterator[None]:
    """New Powertools loggers for one container: a logger keeps the keys and the stdout of its invocation."""
    _remove_loggers()
    yield
    _remove_loggers()


def _remove_loggers() -> None:
    loggers = logging.Logger.manager.loggerDict
    for name in [name for name, logger in loggers.items() if getattr(logger, "init", False)]:
        del loggers[name]


@contextmanager
def _signals_restored() -> Iterator[None]:
    """A handler may handle its container's SIGTERM; afterwards SIGTERM ends this process again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Modules(MetaPathFinder):
    """This container's own copies of its modules.

    Python has one table of modules. The copies are in it only while one of them is imported. Every import statement in
    their code, also a later one in any thread, calls `_import`, because they are loaded with their own builtins.
    """

    _swap = threading.RLock()

    def __init__(self, path: list[str]) -> None:
        self._path = path
        self._mine: dict[str, ModuleType] = {}
        self._builtins = vars(builtins) | {"__import__": self._import}

    @contextmanager
    def installed(self) -> Iterator[None]:
        with self._swap:
            if self in sys.meta_path:
                yield
                return
            aside = _take_out()
            sys.modules.update(self._mine)
            sys.meta_path.insert(0, self)
            try:
                yield
            finally:
                sys.meta_path.remove(self)
                self._mine = _take_out()
                sys.modules.update(aside)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not _is_own(name):
            return None
        spec = PathFinder.find_spec(name, self._path if path is None else path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self._builtins)
        return spec

    def reachable(self) -> Iterator[object]:
        """Every object that the modules' globals reach through collections, closures, caches and their own objects."""
        todo: list[object] = [vars(module) for name, module in self._mine.items()]
        seen = set()
        while todo:
            reached = todo.pop()
            if id(reached) not in seen:
                seen.add(id(reached))
                yield reached
                todo += filter(_is_followed, gc.get_referents(reached))

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if not level and not _is_own(name):
            module = builtins.__import__(name, globals, locals, fromlist or (), level)
            return self._resources(module) if name == "importlib.resources" and fromlist else module
        with self.installed():
            return builtins.__import__(name, globals, locals, fromlist or (), level)

    def _resources(self, module: ModuleType) -> ModuleType:
        """importlib.resources whose `files` reads this container's package, also while another container imports."""
        own = ModuleType(module.__name__)
        vars(own).update(vars(module), files=lambda anchor: module.files(self._mine.get(anchor, anchor)))
        return own


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, own_builtins: dict[str, object]) -> None:
        super().__init__(name, path)
        self._builtins = own_builtins

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._builtins
        super().exec_module(module)


def _is_own(name: str | None) -> bool:
    return name is not None and name.partition(".")[0] in OWN


def _take_out() -> dict[str, ModuleType]:
    # Called for most imports, over more than a thousand modules: few of them pass the first look.
    found = [name for name in list(sys.modules) if name.startswith(BEGINNINGS) and _is_own(name)]
    return {name: sys.modules.pop(name) for name in found}


def _is_followed(reached: object) -> bool:
    match reached:
        case psycopg.Connection() | dict() | list() | tuple() | set() | CellType() | functools._lru_cache_wrapper():
            return True
        case FunctionType() | type():
            return _is_own(reached.__module__)
        case _:
            return _is_own(type(reached).__module__)
