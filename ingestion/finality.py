"""The terms under which a chain's credits are booked: when its blocks are final, and what single credits wait for beyond that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from custody.chains.evm.address import checksum
from custody.deposits import service as deposits
from custody.deposits.model import Caution
from custody.kernel.assetid import AssetId, ChainId, parse_chain_id
from custody.settings import ChainSettings
from ingestion.reorg import NOTHING_FINAL, FinalityRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """When blocks of a chain are final, and what single credits wait for beyond that."""

    rule: FinalityRule
    """The chain's."""
    assets: Mapping[AssetId, FinalityRule] = field(default_factory=dict)
    """Assets with a rule of their own: it counts beside the chain's."""
    agreement_always: bool = False
    """Whether every credit waits for agreement."""
    agreement_from: Mapping[AssetId, int] = field(default_factory=dict)
    """Atomic units from which on credits of an asset wait for it."""
    providers: int = 2
    """How many must name the same hash."""

    @property
    def tags(self) -> frozenset[str]:
        """The tags that nodes are asked for."""
        return frozenset(each.tag for each in (self.rule, *self.assets.values()) if each.tag)

    def caution(self, final: Mapping[AssetId, int], agreed: frozenset[str] = frozenset()) -> Caution:
        """What credits wait for, when assets are final up to these heights and providers agree on these blocks."""
        return Caution(
            final=final,
            agreement_always=self.agreement_always,
            agreement_from=self.agreement_from,
            agreed=agreed,
        )

    def untouched(self) -> Caution:
        """For whoever books beside the live loop: what may have to wait is left to the loop."""
        return self.caution(dict.fromkeys(self.assets, NOTHING_FINAL))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is final at one tip."""

    reached: int | None
    """Up to where blocks are final by the chain's rule; None while no node has vouched."""
    caution: Caution = deposits.NO_CAUTION
    """What waits all the same."""


def terms_of(settings: ChainSettings) -> Terms:
    """The terms that the configuration says."""
    chain = parse_chain_id(settings.id)
    named = {_asset(chain, reference): rule for reference, rule in settings.assets.items()}
    return Terms(
        rule=FinalityRule(confirmations=settings.confirmations, tag=settings.finality_tag),
        assets={
            asset: FinalityRule(
                confirmations=settings.confirmations if each.confirmations is None else each.confirmations,
                tag=each.finality_tag or settings.finality_tag,
            )
            for asset, each in named.items()
            if each.finality_tag or each.confirmations is not None
        },
        agreement_always=settings.kind == "evm" and settings.agreement_required,
        agreement_from={
            asset: each.agreement_from for asset, each in named.items() if each.agreement_from is not None
        },
        providers=settings.agreement_providers,
    )


def _asset(chain: ChainId, reference: str) -> AssetId:
    kind, _, contract = reference.partition(":")
    return AssetId(chain, f"{kind}:{checksum(contract)}" if contract else kind)
