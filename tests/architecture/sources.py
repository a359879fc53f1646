"""The checkout's Python files as the architecture tests see them: parsed once, named by their path."""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PRODUCT = ("api", "custody", "ingestion", "rails", "signer")
PACKAGES = (*PRODUCT, "bench", "cli", "devnet", "tests")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One Python file."""

    path: str
    """Relative to the checkout."""
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.path.partition("/")[0]

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree, in the order of `ast.walk`."""
        return tuple(ast.walk(self.tree))

    @cached_property
    def comments(self) -> list[tuple[int, str]]:
        """Line number and text of every comment."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]

    @cached_property
    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]

    @cached_property
    def calls(self) -> list[tuple[int, str]]:
        """Line number and dotted name of every call of a name: `asyncio.sleep`."""
        called = [(node.lineno, _dotted(node.func)) for node in self.nodes if isinstance(node, ast.Call)]
        return [(line, name) for line, name in called if name]

    @cached_property
    def imports(self) -> set[str]:
        """Every module named in an import."""
        found: set[str] = set()
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
        return found


def sources(*packages: str) -> tuple[Source, ...]:
    """All files of these packages, or of every package; each is read once."""
    return tuple(source for package in packages or PACKAGES for source in _read_package(package))


@cache
def _read_package(package: str) -> tuple[Source, ...]:
    paths = sorted((ROOT / package).rglob("*.py"))
    return tuple(_read(path) for path in paths if "node_modules" not in path.parts)


def _read(path: Path) -> Source:
    text = path.read_text()
    return Source(path=str(path.relative_to(ROOT)), text=text, tree=ast.parse(text))


def _dotted(node: ast.expr) -> str:
    """The name that the source writes, or nothing where it is more than names and dots."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""
