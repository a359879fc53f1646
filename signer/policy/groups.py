"""Demands for approvals: so many people of each of some groups, and who of those that approve fills which place."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from signer.policy.reading import integer_of, list_of, name_of, record_of, wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """`threshold` people of `group`, none of whom counts for another demand of the same rule."""

    group: str
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How far one demand is met."""

    group: str
    threshold: int
    counted: tuple[str, ...]
    """People, sorted."""

    @property
    def missing(self) -> int:
        """People still missing."""
        return self.threshold - len(self.counted)


def seat(demands: tuple[Demand, ...], people: Mapping[str, Collection[str]]) -> tuple[Count, ...]:
    """Give each of `people` (name to groups) at most one place, so that as many places as possible are filled.

    Deterministic: places in the order of the demands, people in the order of their names, and who has a place moves only to make
    room (augmenting paths). A filled place stays filled, so one more approval never makes anything missing.
    """
    if not demands:
        return ()
    places = [demand.group for demand in demands for _ in range(demand.threshold)]
    place_of: dict[str, int] = {}
    names = sorted(people)

    def fill(place: int, tried: set[str]) -> bool:
        for name in names:
            if places[place] in people[name] and name not in tried:
                tried.add(name)
                if name not in place_of or fill(place_of[name], tried):
                    place_of[name] = place
                    return True
        return False

    for place in range(len(places)):
        fill(place, set())
    counts, start = [], 0
    for demand in demands:
        end = start + demand.threshold
        taken = sorted(name for name, place in place_of.items() if start <= place < end)
        counts.append(Count(group=demand.group, threshold=demand.threshold, counted=tuple(taken)))
        start = end
    return tuple(counts)


def parse_demands(value: object, place: str) -> tuple[Demand, ...]:
    """Return the demands; an empty list demands nobody. Raises StartupFault."""
    demands = tuple(_parse_demand(one, place) for one in list_of(value, place))
    if len({demand.group for demand in demands}) != len(demands):
        raise wrong(f"{place}: one group is named twice")
    if sum(demand.threshold for demand in demands) > _PLACES_MAX:
        raise wrong(f"{place}: more than {_PLACES_MAX} people")
    return demands


def check_reachable(demands: tuple[Demand, ...], people: Mapping[str, Collection[str]], place: str) -> None:
    """Raise StartupFault when even everybody together cannot meet the demands: nobody could ever pass there."""
    for count in seat(demands, people):
        if count.missing:
            raise wrong(f"{place}: the group {count.group} has fewer people than the threshold")


_PLACES_MAX = 32


def _parse_demand(value: object, place: str) -> Demand:
    record = record_of(value, {"group", "threshold"}, place)
    return Demand(
        group=name_of(record["group"], f"{place}.group"),
        threshold=integer_of(record["threshold"], f"{place}.threshold"),
    )
