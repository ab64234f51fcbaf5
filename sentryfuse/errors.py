"""Every error a user can cause, as one small tree.

    SentryFuseError
    └── InputError (also a ValueError)      something given is wrong; nothing was changed
        ├── DataError                       a recording: file, arrays, labels, splits
        ├── ConfigError                     an argument or a model configuration
        │   └── NoSensorsError              every sensor is absent
        ├── BudgetError                     no sub-network fits; the message names the nearest
        ├── CheckpointError                 a folder written by `sentryfuse train` or `prune`
        └── BundleError                     a bundle file
            └── SignatureError              it is not signed with the key that was asked for

A message has three parts: what was asked, what there is, what to do. The command line prints it as one
line and exits with 2.
"""

from __future__ import annotations


class SentryFuseError(Exception):
    """Base of all errors raised on purpose."""


class InputError(SentryFuseError, ValueError):
    """Something that was given is wrong; nothing was changed."""


class DataError(InputError):
    """A recording cannot be used: file, arrays, labels or splits."""


class ConfigError(InputError):
    """An argument or a model configuration cannot be used."""


class NoSensorsError(ConfigError):
    """Every sensor is absent, so there is nothing to answer from."""


class BudgetError(InputError):
    """No sub-network fits the budget; the message names the nearest one that can be had."""


class CheckpointError(InputError):
    """A folder with a trained model is incomplete, damaged or of another version."""


class BundleError(InputError):
    """A bundle file is damaged, of another version or not a bundle."""


class SignatureError(BundleError):
    """A bundle is not signed with the key that was asked for, or was changed since."""
