"""Tests that need the development data beside the repository (../shared) skip without it.

DEEPCLUST_REQUIRE_SHARED=1, as CI sets it where the data is there, turns such a skip into a failure.
"""

import os

import pytest

# Results are compared to the bit, which a GPU does not promise: also where there is one, tests compute on the CPU.
os.environ.setdefault("DEEPCLUST_DEVICE", "cpu")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and "shared" in str(report.longrepr) and os.environ.get("DEEPCLUST_REQUIRE_SHARED"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although the development data is required: {report.longrepr}"
    return report
