"""The checkout's Python files as the architecture tests see them: parsed once, named by their path."""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from functools import cache
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

    def comments(self) -> list[tuple[int, str]]:
        """Line number and text of every comment."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]

    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [
            node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]

    def imports(self) -> set[str]:
        """Every module named in an import."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
        return found


@cache
def sources(*packages: str) -> tuple[Source, ...]:
    """All files of these packages, or of every package."""
    paths = [path for package in packages or PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return tuple(_read(path) for path in paths if "node_modules" not in path.parts)


def _read(path: Path) -> Source:
    text = path.read_text()
    return Source(path=str(path.relative_to(ROOT)), text=text, tree=ast.parse(text))
