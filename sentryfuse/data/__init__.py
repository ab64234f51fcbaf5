"""Recordings come in, checked windows go out.

A recording is an npz file in one layout (`npz`), or the embedded synthetic one (`synthetic`);
`catalogue` opens either by name. `windows` holds it in memory, `splits` deals it by subject,
`normalise` knows its mean and spread, `presence` says which sensors are on. numpy only.
"""

from sentryfuse.data.catalogue import list_data, open_data
from sentryfuse.data.describe import describe
from sentryfuse.data.normalise import RunningStatistics, Statistics, training_statistics
from sentryfuse.data.npz import load_windows, save_windows
from sentryfuse.data.people import by_subject, subject_floor, subject_prior
from sentryfuse.data.presence import (
    Curriculum,
    PresenceGroups,
    batches,
    fixed_masks,
    group_by_presence,
    leave_one_out,
)
from sentryfuse.data.splits import check_no_shared_subject, fold, split_by_subject
from sentryfuse.data.synthetic import synthetic_wearable
from sentryfuse.data.windows import SubjectStatistics, Windows, make_windows

__all__ = [
    "Curriculum",
    "PresenceGroups",
    "RunningStatistics",
    "Statistics",
    "SubjectStatistics",
    "Windows",
    "batches",
    "by_subject",
    "check_no_shared_subject",
    "describe",
    "fixed_masks",
    "fold",
    "group_by_presence",
    "leave_one_out",
    "list_data",
    "load_windows",
    "make_windows",
    "open_data",
    "save_windows",
    "split_by_subject",
    "subject_floor",
    "subject_prior",
    "synthetic_wearable",
    "training_statistics",
]
