"""The small run of the training tests."""

from tests.training.conftest import config

__all__ = ["config"]
