"""Occasions of schedules, worked out by APScheduler: an oracle that shares no code with rex-cron.

Reads one JSON object a line, {"fields": {...}, "zone": ..., "from": ..., "until": ...} with seconds
since 1970, and answers each with the seconds of its occasions after `from` and up to `until`.

APScheduler says which times on a wall clock match: it is asked in UTC, where every day has 24 hours.
What moment a time on the wall is, where clocks are changed, follows from the two sentences in the
documentation of rex-cron and from Python's zoneinfo.
"""

import json
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

UTC = timezone.utc
# More than any clock is changed by.
MARGIN = timedelta(hours=3)


def wall_times(fields, first, last):
    trigger = CronTrigger(timezone=UTC, end_date=last.replace(tzinfo=UTC), **fields)
    at = trigger.get_next_fire_time(None, first.replace(tzinfo=UTC))
    while at is not None:
        yield at.replace(tzinfo=None)
        at = trigger.get_next_fire_time(at, at)


def moments(wall, zone, every_hour):
    folds = [wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
    if not every_hour:
        return {folds[0].timestamp()}
    real = [at for at in folds if at.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall]
    return {at.timestamp() for at in real}


def hours(fields):
    if "hour" not in fields:
        finer = {"minute", "second"} & fields.keys()
        return set(range(24)) if finer else {0}
    day = datetime(2024, 1, 1)
    times = wall_times({"hour": fields["hour"]}, day, day + timedelta(hours=23))
    return {at.hour for at in times}


for line in sys.stdin:
    case = json.loads(line)
    zone = ZoneInfo(case["zone"])
    first, last = (
        datetime.fromtimestamp(case[end], zone).replace(tzinfo=None) for end in ("from", "until")
    )
    every_hour = len(hours(case["fields"])) == 24
    found = set()
    for wall in wall_times(case["fields"], first - MARGIN, last + MARGIN):
        found |= moments(wall, zone, every_hour)
    print(json.dumps(sorted(int(at) for at in found if case["from"] < at <= case["until"])))
