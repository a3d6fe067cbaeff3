"""Tests that need the development data beside the repository (../shared) skip without it.

DEEPCLUST_REQUIRE_SHARED=1, as CI sets it where the data is there, turns such a skip into a failure.
"""

import os

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and "shared" in str(report.longrepr) and os.environ.get("DEEPCLUST_REQUIRE_SHARED"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although the development data is required: {report.longrepr}"
    return report
