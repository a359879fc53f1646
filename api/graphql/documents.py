"""Documents ready to be executed: parsed, measured and validated once, then remembered.

Trusted documents are known by the SHA-256 of their text and read at the start of the process; a client names one instead of
sending it, and an installation may refuse all others. Source: GraphQL over HTTP, appendix on persisted documents.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from graphql import (
    DirectiveNode,
    DocumentNode,
    ExecutionResult,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    Visitor,
    parse,
    specified_rules,
    validate,
    visit,
)
from graphql.validation import ASTValidationRule, NoSchemaIntrospectionCustomRule

from api.graphql.limits import TOKENS_MAX, refusal
from api.graphql.plan import variables_in
from custody.kernel.errors import InvalidInput, InvariantViolated

REMEMBERED_MAX = 512
"""Documents of strangers that are remembered, the last used ones; each has at most 20,000 characters."""
ERRORS_MAX = 20
"""Mistakes that are told of one document."""


class UnknownOperation(InvalidInput):
    """The document has no operation of this name, or several and none is named."""

    code = "unknown_operation"
    public = "The document has no such operation, or several of which none is named."


class UnknownDocument(InvalidInput):
    """No trusted document has this hash."""

    code = "unknown_document"
    public = "No trusted document has this hash."


class DocumentNotTrusted(InvalidInput):
    """Only trusted documents are executed here, and this is none."""

    code = "document_not_trusted"
    public = "Only trusted documents are executed here: send the hash of one."


class NoDocument(InvalidInput):
    """A request with neither a document nor a hash, or with two that differ."""

    code = "no_document"
    public = "Send either `query`, or the hash of a trusted document."


class BrokenRegistry(InvariantViolated):
    """The registry of trusted documents cannot be served: the process does not start with it."""

    code = "broken_trusted_documents"
    public = "The registry of trusted documents is broken."


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A document that was parsed and validated."""

    name: str
    """SHA-256 of its text."""
    document: DocumentNode | None
    """None where it has no syntax."""
    errors: tuple[GraphQLError, ...]
    """What is wrong with it; nothing is executed while anything is."""
    operations: Mapping[str, OperationDefinitionNode]
    """By name; empty text for one without."""
    asks_nodes: bool
    """Whether it may want what the chains' nodes say."""
    asks_fees: bool
    """Whether it may want what transfers cost."""
    fragments: Mapping[str, FragmentDefinitionNode]
    """By name."""
    chosen_by: tuple[str, ...]
    """The variables that @skip and @include ask for."""

    @property
    def refusal(self) -> ExecutionResult:
        """The answer to a document that is not executed."""
        return ExecutionResult(None, list(self.errors))

    def definition(self, name: str | None) -> OperationDefinitionNode:
        """The operation that is meant. Raises UnknownOperation."""
        if name is None and len(self.operations) == 1:
            return next(iter(self.operations.values()))
        found = self.operations.get(name) if name else None
        if found is None:
            raise UnknownOperation(operation=name)
        return found

    def operation(self, name: str | None) -> OperationType:
        """What kind of operation is meant. Raises UnknownOperation."""
        return self.definition(name).operation


class Documents:
    """All documents that one process has seen."""

    def __init__(
        self,
        schema: GraphQLSchema,
        extra_rules: Iterable[type[ASTValidationRule]] = (),
        trusted: Mapping[str, str] | None = None,
        *,
        trusted_only: bool = False,
    ) -> None:
        """`trusted` is text by SHA-256. Raises BrokenRegistry when one of them would not be executed."""
        self._schema = schema
        self._rules = (*specified_rules, *extra_rules)
        self._trusted_only = trusted_only
        self._seen: OrderedDict[str, Prepared] = OrderedDict()
        self._trusted = {name: self._prepare(text) for name, text in (trusted or {}).items()}
        for name, found in self._trusted.items():
            if found.errors:
                raise BrokenRegistry(sha256=name, error=found.errors[0].message)

    def find(self, text: str | None, named: str | None) -> Prepared:
        """The document of this text, or of this hash. Raises UnknownDocument, DocumentNotTrusted, NoDocument."""
        if named is not None:
            if text is not None and hash_of(text) != named:
                raise NoDocument("The hash is not of this document.")
            known = self._trusted.get(named)
            if known is not None:
                return known
            if text is None:
                raise UnknownDocument(sha256=named[:64])
        if text is None:
            raise NoDocument
        if self._trusted_only:
            raise DocumentNotTrusted
        found = self._seen.get(text)
        if found is None:
            found = self._seen[text] = self._prepare(text)
            if len(self._seen) > REMEMBERED_MAX:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end(text)
        return found

    def _validate(self, document: DocumentNode) -> list[GraphQLError]:
        # Whoever may not ask what there is, is not told by a misspelling either.
        blind = NoSchemaIntrospectionCustomRule in self._rules
        return validate(self._schema, document, self._rules, ERRORS_MAX, hide_suggestions=blind)

    def _prepare(self, text: str) -> Prepared:
        try:
            document = parse(text, max_tokens=TOKENS_MAX)
        except GraphQLError as error:
            return Prepared(
                name=hash_of(text),
                document=None,
                errors=(_named(error),),
                operations={},
                asks_nodes=False,
                asks_fees=False,
                fragments={},
                chosen_by=(),
            )
        refused = refusal(document)
        errors = [refused] if refused else self._validate(document)
        return Prepared(
            name=hash_of(text),
            document=document,
            errors=tuple(errors),
            operations={
                found.name.value if found.name else "": found
                for found in document.definitions
                if isinstance(found, OperationDefinitionNode)
            },
            asks_nodes="chains" in text,
            asks_fees="fee" in text,
            fragments={
                found.name.value: found
                for found in document.definitions
                if isinstance(found, FragmentDefinitionNode)
            },
            chosen_by=_chosen_by(document),
        )


def hash_of(text: str) -> str:
    """The name of a trusted document: SHA-256 of its UTF-8, hexadecimal."""
    return sha256(text.encode()).hexdigest()


def load_registry(place: Path | None) -> dict[str, str]:
    """Trusted documents by hash: every `*.graphql` of a folder, or a JSON object of hash to text. Raises BrokenRegistry."""
    if place is None:
        return {}
    try:
        if place.is_dir():
            texts = [path.read_text("utf-8") for path in sorted(place.glob("*.graphql"))]
            return {hash_of(text): text for text in texts}
        found = json.loads(place.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenRegistry(place=str(place), error=str(error)) from error
    for name, text in found.items() if isinstance(found, dict) else [("", None)]:
        if not isinstance(text, str) or hash_of(text) != name:
            raise BrokenRegistry(place=str(place), sha256=str(name)[:64])
    return dict(found)


def _chosen_by(document: DocumentNode) -> tuple[str, ...]:
    """The variables that the document's directives ask for: @skip and @include are all that may stand within an operation."""
    found: list[DirectiveNode] = []

    class Directives(Visitor):
        def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
            found.append(node)

    visit(document, Directives())
    return tuple(sorted(variables_in(*found)))


def _named(error: GraphQLError) -> GraphQLError:
    """A syntax error; too many tokens have a code of their own."""
    if f"{TOKENS_MAX} tokens" in error.message:
        return GraphQLError(error.message, extensions={"code": "too_many_tokens"})
    return error
