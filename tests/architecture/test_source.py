"""Our own small lints: what docs/adr and the style ask for and no tool checks. Each test prints every place that breaks it."""

from __future__ import annotations

import ast
import re

from tests.architecture.sources import PRODUCT, Source, sources

LINES_MAX = 400
FUNCTION_LINES_MAX = 70
SCALES = re.compile(
    r"(_s|_ms|_at|_seconds|seconds|timeout|interval|ratio|jitter|delay|backoff|now|deadline|started|monotonic)$"
)
"""Names of durations and moments: the only things that may be floats in a product package."""
PATIENT = {
    "api/graphql/vigil.py": "a key is asked for again and again while a stream lives",
    "custody/db/snapshot.py": "what idle readers left open is ended a moment later",
    "custody/db/signals.py": "a listener's lost connection is made again, after a moment",
    "custody/recon/service.py": "books and chain move; the caller says how often to look again",
    "signer/hsm/module.py": "several processes that open one module at once see no token for a moment; bounded, at start only",
}
"""Files outside process loops that may wait by the clock, and why."""
OUTERMOST = re.compile(r"(worker|loop|main|server)\.py$|^api/edge\.py$|^api/graphql/(plan|completing)\.py$")
"""The outermost loop of a process or request: the one place where whatever escaped is logged and answered. Of GraphQL, every
field is a request of its own: what its resolver raises is told at its place."""
CONFIGURATION = {"custody/settings.py", "signer/process.py"}
"""Files that may read the environment; the signer's only to find the directory of systemd's credentials."""


def places(found: list[tuple[Source, int, str]]) -> list[str]:
    return [f"{source.path}:{line}: {what}" for source, line, what in found]


def test_files_are_short() -> None:
    long = [(one.path, lines) for one in sources() if (lines := one.text.count("\n")) > LINES_MAX]
    assert long == []


def test_functions_fit_a_screen() -> None:
    long = [
        (one, function.lineno, f"{function.name} has {lines} lines")
        for one in sources()
        if "/migrations/" not in one.path  # one flat list of statements each, read from top to bottom
        for function in one.functions
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert places(long) == []


def test_package_files_are_empty() -> None:
    assert [one.path for one in sources() if one.path.endswith("__init__.py") and one.text] == []


def test_modules_say_why_they_exist() -> None:
    silent = [
        one.path for one in sources(*PRODUCT, "cli", "devnet") if one.text and not ast.get_docstring(one.tree)
    ]
    assert silent == []


def test_no_float_near_money() -> None:
    found = []
    for one in sources(*PRODUCT):
        if "float" not in one.text:
            continue
        for node in one.nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float":
                found.append((one, node.lineno, "float(...)"))
            elif (
                isinstance(node, ast.AnnAssign | ast.arg)
                and node.annotation
                and "float" in ast.unparse(node.annotation)
            ):
                name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
                if not SCALES.search(name):
                    found.append((one, node.lineno, f"{name}: float"))
    assert places(found) == []


def test_money_is_never_divided_by_slash() -> None:
    """`/` on integers makes a float; only paths and durations are joined or divided in product packages."""
    found = [
        (one, node.lineno, ast.unparse(node))
        for one in sources("custody", "signer", "rails")
        for node in one.nodes
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div)
        and re.search(r"amount|atomic|stroops|wei|fee|balance|price", ast.unparse(node))
    ]
    assert places(found) == []


def test_environment_is_read_in_the_settings_only() -> None:
    found = [
        (one, node.lineno, ast.unparse(node))
        for one in sources(*PRODUCT)
        if one.path not in CONFIGURATION
        for node in one.nodes
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    ]
    assert places(found) == []


def test_arq_is_known_to_two_files() -> None:
    users = [
        one.path
        for one in sources(*PRODUCT, "cli")
        if any(name.partition(".")[0] == "arq" for name in one.imports)
    ]
    assert users == ["custody/events/wakeup.py", "custody/worker.py"]


def test_nothing_is_left_to_be_done() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    found = [(one, line, text) for one in sources() for line, text in one.comments if words.search(text)]
    assert places(found) == []


def test_nothing_is_a_stub() -> None:
    found = [
        (one, node.lineno, "NotImplementedError")
        for one in sources()
        for node in one.nodes
        if isinstance(node, ast.Name) and node.id == "NotImplementedError" and one.package != "tests"
    ]
    assert places(found) == []


def test_silenced_warnings_name_a_code() -> None:
    silenced = re.compile(r"#\s*(noqa(?!:\s*[A-Z]+\d+)|type:\s*ignore(?!\[))")
    found = [(one, line, text) for one in sources() for line, text in one.comments if silenced.search(text)]
    assert places(found) == []


def test_imports_are_absolute_and_at_the_top() -> None:
    found = []
    for one in sources(*PRODUCT, "cli", "devnet"):
        guarded = {
            id(inner)
            for node in one.tree.body
            if isinstance(node, ast.If | ast.Try)
            for inner in ast.walk(node)
        }
        for node in one.nodes:
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            if isinstance(node, ast.ImportFrom) and node.level:
                found.append((one, node.lineno, "relative import"))
            elif node not in one.tree.body and id(node) not in guarded:
                found.append((one, node.lineno, "import below the top"))
    assert places(found) == []


def test_only_loops_sleep() -> None:
    """Domain code never waits by the clock; back-off lives in process loops (worker.py, loop.py, main.py). To let others have a
    turn, `asyncio.sleep(0)`, is no wait by the clock."""
    found = [
        (one, line, name)
        for one in sources("custody", "api", "rails", "ingestion", "signer")
        if not re.search(r"(worker|loop|main|relay|poster)\.py$", one.path) and one.path not in PATIENT
        for line, name in one.calls
        if name in {"asyncio.sleep", "time.sleep", "sleep"}
        and "asyncio.sleep(0)" not in one.text.splitlines()[line - 1]
    ]
    assert places(found) == []


def test_random_and_clock_stay_out_of_the_pure_core() -> None:
    pure = re.compile(r"/(model|transitions|postings|evaluate|compare|normalize|reorg)\.py$")
    calls = {"datetime.now", "time.time", "time.monotonic", "random.random", "uuid4", "os.urandom"}
    found = [
        (one, line, name)
        for one in sources("custody", "ingestion")
        if pure.search(one.path)
        for line, name in one.calls
        if name in calls
    ]
    assert places(found) == []


def test_broad_except_stands_in_process_loops_only() -> None:
    found = []
    for one in sources(*PRODUCT):
        if OUTERMOST.search(one.path):
            continue
        for node in one.nodes:
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
            ):
                reraises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
                if not reraises:
                    found.append((one, node.lineno, "except Exception"))
    assert places(found) == []


def test_errors_are_swallowed_only_with_a_reason() -> None:
    found = []
    for one in sources(*PRODUCT):
        lines = one.text.splitlines()
        for node in one.nodes:
            if isinstance(node, ast.ExceptHandler) and all(
                isinstance(inner, ast.Pass) for inner in node.body
            ):
                handler = lines[node.lineno - 1 : node.end_lineno]
                if not any("#" in line for line in handler):
                    found.append((one, node.lineno, "except without a word why nothing is done"))
    assert places(found) == []


def test_modules_hold_no_mutable_state() -> None:
    mutable = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    found = []
    for one in sources(*PRODUCT):
        for node in one.tree.body:
            if isinstance(node, ast.Global):
                found.append((one, node.lineno, "global"))
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            value = getattr(node, "value", None)
            for target in targets:
                name = ast.unparse(target)
                # A constant table in capitals is read, never changed; anything else at the top is state.
                if (
                    isinstance(value, mutable)
                    and not name.lstrip("_").isupper()
                    and not name.startswith("__")
                ):
                    found.append((one, node.lineno, name))
    assert places(found) == []


def test_values_of_a_context_are_frozen() -> None:
    found = []
    for one in sources("custody", "signer", "ingestion"):
        if not one.path.endswith("/model.py"):
            continue
        for node in one.nodes:
            if not isinstance(node, ast.ClassDef):
                continue
            for decorator in node.decorator_list:
                text = ast.unparse(decorator)
                if text.startswith("dataclass") and not ("frozen=True" in text and "slots=True" in text):
                    found.append((one, node.lineno, node.name))
    assert places(found) == []


def test_project_speaks_of_itself_only() -> None:
    """No path of a build machine and no address of a person finds its way into the code."""
    private = re.compile(r"(?<![\w/.])/(home|Users|root|work)/\w+")
    found = [
        (one, number, line.strip())
        for one in sources()
        if one.path != "tests/architecture/test_source.py"
        for number, line in enumerate(one.text.splitlines(), 1)
        if private.search(line)
    ]
    assert places(found) == []
