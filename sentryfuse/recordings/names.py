"""What names of columns and files tell: which column is what, which sensor, whose file.

Everything here is a guess by words that loggers use; `guess` writes it into a recipe that people look
through.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sentryfuse.data.checks import FORBIDDEN

_TIME = re.compile(
    r"(time|start|begin|onset|timestamps?|t|ts|date|datetime|date_?time|zeit|uhrzeit|zeitstempel|epoch\w*|unix\w*|elapsed\w*|"
    r"sample_?time|local_?time|utc\w*|seconds|millis\w*|recorded_at|created_at|\w+_(?<!end_)(?<!stop_)(time|timestamp)|time_?stamp\w*)"
)
_WORDS = {
    "until": re.compile(r"(end|stop|until|offset)(_?time)?(_?(s|ms|us|ns))?"),
    "label": re.compile(
        r"(label|labels|class|classes|activity\w*|target|y|state|annotation|event|behaviou?r|gesture|condition|"
        r"ground_?truth|stage|category|klasse|aktivit(ae|ä)t)"
    ),
    "subject": re.compile(
        r"(subject|subj|sub|participant|person|user|patient|pid|proband|athlete|worker|driver|"
        r"animal|who)(_?(id|nr|no|name))?"
    ),
    "recording": re.compile(
        r"(session|recording|trial|take|rep|repetition|visit|record)(_?(id|nr|no|name))?"
    ),
    "split": re.compile(r"(split|subset|partition|set)"),
    "sensor": re.compile(r"(sensor|modality|device|stream|source|sensor_?(name|type|id))"),
    "index": re.compile(
        r"(index|idx|row|sample|samples|sample_?(no|nr|id|index|number)|unnamed_0|nr|no|counter|seq|id)"
    ),
}
_UNITS = {
    word: unit
    for unit, words in {
        "s": ("s", "sec", "secs", "second", "seconds"),
        "ms": ("ms", "msec", "millis", "milliseconds"),
        "us": ("us", "µs", "\u03bcs", "usec", "micros", "microseconds"),
        "ns": ("ns", "nsec", "nanos", "nanoseconds"),
    }.items()
    for word in words
}
_AXIS = re.compile(
    r"(?P<stem>.*?)(?P<gap>[ _.\-:/]*)"
    r"(?P<axis>[xyzwXYZW]|\d{1,3}|lat|lon|alt|latitude|longitude|altitude|magnitude|mag)$"
)
_AXIS_FIRST = re.compile(r"(?P<axis>[xyzwXYZW])[ _.\-:]+(?P<stem>.+)$")
_SENSORS = re.compile(
    r"(acc\w*|gyr\w*|mag\w*|hr|heart\w*|ecg|ekg|eeg|emg|eog|ppg|bvp|eda|gsr|temp\w*|resp\w*|spo2|imu|gps|baro\w*|"
    r"press\w*|mic|audio|sound|light|lux|hum\w*|ibi|watch|phone|wrist|chest|ankle|hip|belt|left|right|pocket)\d*",
    re.IGNORECASE,
)
SPLIT_WORDS = frozenset({"train", "test", "val", "valid", "validation", "training", "testing", "dev"})
_PERSON = re.compile(
    r"(p|s|u|sub|subj|subject|participant|person|proband|user|patient|id|pt|athlete|worker|volunteer)\d+",
    re.IGNORECASE,
)
_PERSON_WORD = re.compile(
    r"(p|s|sub|subj|subject|participant|person|proband|user|patient|id|pt|athlete|worker|volunteer)",
    re.IGNORECASE,
)
_CUT = re.compile(r"[/_\-. ]+")
_TOKEN = r"[^/_\-. ]+"


def plain_name(column: str) -> str:
    """A column's name without its unit, in small letters, cut by `_`."""
    name = re.sub(r"[\(\[\{].*?[\)\]\}]", "", column).strip().lower()
    return re.sub(r"[^0-9a-zµ\u03bcäöüß]+", "_", name).strip("_")


def role_of(column: str) -> str | None:
    """What a column is by its name: time, label, subject, recording, split, sensor, index; `None` else."""
    name = plain_name(column)
    if _TIME.fullmatch(name) or (
        name.split("_")[-1] in _UNITS and _TIME.fullmatch("_".join(name.split("_")[:-1]))
    ):
        return "time"
    return next((role for role, words in _WORDS.items() if words.fullmatch(name)), None)


def unit_of(column: str) -> str | None:
    """The unit of time that a column's name says: s, ms, us, ns; `None` where it says none."""
    inside = re.findall(r"[\(\[\{](.*?)[\)\]\}]", column)
    last = plain_name(column).split("_")[-1]
    for word in (*(part.strip().lower() for part in inside), last):
        if word in _UNITS:
            return _UNITS[word]
    return None


def sensors_of(columns: Sequence[str], *, alone: str = "") -> dict[str, list[str]]:
    """Columns put together into sensors, by what their names share: `acc_x`, `acc_y`, `acc_z`.

    Args:
        columns: of numbers, in order.
        alone: name for columns that are axes only (`x`, `y`, `z`), and for a table of one sensor.

    Returns:
        Sensor -> its columns.
    """
    stems: dict[str, list[str]] = defaultdict(list)
    for column in columns:
        base = re.sub(r"\s*[\(\[\{].*?[\)\]\}]", "", column).strip()
        match = _AXIS.fullmatch(base) or _AXIS_FIRST.fullmatch(base)
        stems[match["stem"].strip(" _.-:/") if match else base].append(column)
    found: dict[str, list[str]] = {}
    for stem, members in stems.items():
        if len(members) == 1 and stem:
            base = re.sub(r"\s*[\(\[\{].*?[\)\]\}]", "", members[0]).strip()
            dotted = re.fullmatch(r"(\w+)\.(\w+)", base)  # the project's own way: sensor.channel
            found.setdefault(safe_name(dotted[1] if dotted else base), []).append(members[0])
        else:
            found.setdefault(safe_name(stem or alone or "sensor"), []).extend(members)
    if len(found) == 1 and alone:
        return {safe_name(alone): next(iter(found.values()))}
    return found


def safe_name(name: str) -> str:
    """A name that a command line can carry."""
    cleaned = "".join("_" if c in FORBIDDEN or not c.isprintable() else c for c in name).strip()
    return f"{cleaned or 'sensor'}_" if cleaned in ("all", "") else cleaned


@dataclass
class FileNames:
    """What the names of files tell.

    Attributes:
        pattern: table -> regular expression for its files; empty for none.
        sensor: file -> the word of its name that tells the sensor; empty for none.
        roles: which of subject, recording, label and split the pattern finds.
        remarks: what people should look at.
    """

    pattern: dict[int, str] = field(default_factory=dict)
    sensor: dict[str, str] = field(default_factory=dict)
    roles: set[str] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)


def read_file_names(
    names: Sequence[str], signature: Mapping[str, int], *, labelled: bool, peopled: bool
) -> FileNames:
    """Find out what the words of file names mean, from which of them differ.

    Args:
        names: paths below one folder, with `/`.
        signature: path -> number of its kind of table (files of one kind have the same columns).
        labelled: whether a column of labels is there.
        peopled: whether a column of subjects is there.
    """
    found = FileNames(sensor=dict.fromkeys(names, ""))
    stems = {
        name: re.sub(r"(\.[A-Za-z]\w{0,7}){1,2}$" if name.endswith(".gz") else r"\.\w+$", "", name)
        for name in names
    }
    cut = {name: _CUT.split(stem) for name, stem in stems.items()}
    lengths = {len(tokens) for tokens in cut.values()}
    if len(names) < 2:
        return found
    if len(lengths) > 1:
        return _of_uneven_names(found, names, peopled=peopled)
    roles: dict[int, str] = {}
    varying = [i for i in range(lengths.pop()) if len({tokens[i] for tokens in cut.values()}) > 1]
    for i in varying:
        values = [cut[name][i] for name in names]
        kinds = {(value, signature[name]) for value, name in zip(values, names, strict=True)}
        several = len(set(signature.values())) > 1
        if {v.lower() for v in values} <= SPLIT_WORDS:
            roles[i] = "split"
        elif (several and len(kinds) == len(set(values)) < len(names)) or all(
            _SENSORS.fullmatch(v) for v in values
        ):
            roles[i] = "sensor"
            found.sensor = dict(zip(names, values, strict=True))
    for i in varying:
        values = [cut[name][i] for name in names]
        before = cut[names[0]][i - 1] if i else ""
        if i in roles or "subject" in roles.values() or peopled:
            continue
        if all(_PERSON.fullmatch(v) for v in values) or (
            all(v.isdecimal() for v in values) and _PERSON_WORD.fullmatch(before) and i - 1 not in varying
        ):
            roles[i] = "subject"
    left = [i for i in varying if i not in roles]
    words = [i for i in left if not any(c.isdecimal() for name in names for c in cut[name][i])]
    if words and not labelled:
        roles[words[0]] = "label"
        found.remarks.append("labels are taken from the names of files")
    elif words and not peopled and "subject" not in roles.values():
        roles[words[0]] = "subject"
    left = [i for i in left if i not in roles]
    if left and not peopled and "subject" not in roles.values() and "label" not in roles.values():
        roles[left[0]] = "subject"
        found.remarks.append(
            "each name is taken for one person; if it is not, rename `subject` in the pattern to `recording`"
        )
    left = [i for i in left if i not in roles]
    if left:
        roles[left[0]] = "recording"
    found.roles = set(roles.values()) - {"sensor"}
    for number in sorted(set(signature.values())):
        own = [name for name in names if signature[name] == number]
        found.pattern[number] = _pattern(own, cut, roles, varying) if found.roles else ""
    return found


def _pattern(
    names: Sequence[str], cut: Mapping[str, list[str]], roles: Mapping[int, str], varying: Sequence[int]
) -> str:
    gaps = [_CUT.findall(name) for name in names]
    parts = ["^"]
    for i, token in enumerate(cut[names[0]]):
        if i:
            seen = {g[i - 1] for g in gaps}
            parts.append(re.escape(seen.pop()) if len(seen) == 1 else r"[/_\-. ]+")
        if roles.get(i) in ("subject", "recording", "label", "split"):
            parts.append(f"(?P<{roles[i]}>{_TOKEN})")
        elif i in varying and len({cut[name][i] for name in names}) > 1:
            parts.append(_TOKEN)
        else:
            parts.append(re.escape(token))
    return "".join(parts) + r"\."


def _of_uneven_names(found: FileNames, names: Sequence[str], *, peopled: bool) -> FileNames:
    """Names of different make: a person's word anywhere, a folder each, or a person each."""
    numbers = range(max(1, len(names)))
    words = r"(?:^|[/_\-. ])(?P<subject>(?:p|s|sub|subj|subject|participant|person|user|patient|id)[_-]?\d+)"
    if peopled:
        pattern = r"^(?P<recording>.+)\."
    elif all(re.search(words, name) for name in names):
        pattern = words
    elif all("/" in name for name in names) and len({name.split("/")[0] for name in names}) > 1:
        pattern = r"^(?P<subject>[^/]+)/"
        found.remarks.append("each folder is taken for one person; mend the pattern if it is not")
    else:
        pattern = r"^(?P<subject>.+)\."
        found.remarks.append("each file is taken for one person; mend the pattern if it is not")
    found.roles = {"recording" if peopled else "subject"}
    found.pattern = dict.fromkeys(numbers, pattern)
    return found
