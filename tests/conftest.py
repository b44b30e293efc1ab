"""What every test can rely on: one thread per worker, pictures without a window, random numbers of its own."""

import os
import signal

if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)           # nohup's children ignore it, and tests send it
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with Ctrl-C turned off
if "PYTEST_XDIST_WORKER" in os.environ:                    # workers that each take all cores only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _random_numbers_of_its_own():
    """No test sees what another drew, so that the order and the worker do not matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(params=[True, False], ids=["checks on", "checks off"], scope="module")
def torch_checks(request):
    """torch's own checks of distributions, on and off: some libraries switch them off for the whole process."""
    yield from _torch_checks(request.param)


@pytest.fixture(autouse=True, scope="module")
def _torch_checks_on():
    """Whatever a module imported, its tests begin with torch's checks on, as a chapter does."""
    yield from _torch_checks(True)


def _torch_checks(on):
    before = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(on)
    yield
    torch.distributions.Distribution.set_default_validate_args(before)
