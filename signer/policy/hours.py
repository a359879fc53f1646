"""When a rule is open: spans of the day in UTC, on given weekdays."""

import re
from dataclasses import dataclass

from signer.policy.reading import record_of, texts_of, wrong

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")
_DAY_S = 86_400
_EPOCH_WEEKDAY = 3
"""1 January 1970 was a Thursday."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """From `start` until before `end` on each of `days`, UTC."""

    days: tuple[str, ...]
    start: str
    """"HH:MM"."""
    end: str
    """"HH:MM", after `start`; "24:00" is the end of the day."""

    def hold(self, now: int) -> bool:
        """Tell whether unix second `now` lies within."""
        day, second = divmod(now, _DAY_S)
        today = DAYS[(day + _EPOCH_WEEKDAY) % len(DAYS)]
        return today in self.days and _seconds(self.start) <= second < _seconds(self.end)


def parse_hours(value: object, place: str) -> Hours:
    """Return one span; raises StartupFault."""
    record = record_of(value, {"days", "from", "to"}, place)
    start, end = _clock(record["from"], place), _clock(record["to"], place)
    if _seconds(start) >= _seconds(end):
        raise wrong(f"{place}: from must be before to; a span over midnight is two spans")
    return Hours(days=texts_of(record["days"], f"{place}.days", _day), start=start, end=end)


def _day(value: object, place: str) -> str:
    if not isinstance(value, str) or value not in DAYS:
        raise wrong(f"{place} must be among {', '.join(DAYS)}")
    return value


def _clock(value: object, place: str) -> str:
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise wrong(f'{place}: a time of day is "HH:MM", UTC')
    return value


def _seconds(clock: str) -> int:
    return int(clock[:2]) * 3600 + int(clock[3:]) * 60
