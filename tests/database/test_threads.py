"""How many threads commands take: from files of the system made by hand, and from the environment."""

import os

import pytest
import torch

from kndb.database import threads
from kndb.database.threads import LoadMeter, cgroup_quota, free_cores, physical_cores, use_threads
from kndb.errors import UsageError


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in (threads.VARIABLE, *threads.OTHERS):
        monkeypatch.delenv(name, raising=False)


def write(root, path, text):
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="ascii")


def test_two_hardware_threads_of_a_core_count_once(tmp_path):
    for cpu, siblings in enumerate(("0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7")):
        write(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{siblings}\n")
    assert physical_cores(range(8), tmp_path) == 4
    assert physical_cores([0, 4], tmp_path) == 1
    assert physical_cores([0, 1, 4], tmp_path) == 2
    assert physical_cores([8, 9], tmp_path) == 2  # the system says nothing of these


def test_quota_of_control_groups(tmp_path):
    assert cgroup_quota(tmp_path) is None
    write(tmp_path, "proc/self/cgroup", "0::/user.slice/one.scope\n")
    assert cgroup_quota(tmp_path) is None
    write(tmp_path, "sys/fs/cgroup/user.slice/one.scope/cpu.max", "max 100000\n")
    assert cgroup_quota(tmp_path) is None
    write(tmp_path, "sys/fs/cgroup/user.slice/cpu.max", "250000 100000\n")
    assert cgroup_quota(tmp_path) == 2.5
    write(tmp_path, "sys/fs/cgroup/user.slice/one.scope/cpu.max", "150000 100000\n")
    assert cgroup_quota(tmp_path) == 1.5


def test_quota_of_the_older_control_groups(tmp_path):
    write(tmp_path, "proc/self/cgroup", "4:memory:/box\n3:cpu,cpuacct:/box\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert cgroup_quota(tmp_path) is None
    write(tmp_path, "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "300000\n")
    write(tmp_path, "sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n")
    assert cgroup_quota(tmp_path) == 3


@pytest.mark.parametrize(
    ("cores", "others", "quota", "expected"),
    [
        (8, 0.0, None, 8),
        (8, 2.0, None, 6),
        (8, 7.6, None, 1),
        (8, 30.0, None, 1),
        (8, 0.0, 2.0, 2),
        (8, 0.0, 0.5, 1),
        (8, 7.0, 4.0, 1),
        (2, 1.4, None, 1),
        (2, 0.4, None, 2),
    ],
)
def test_free_cores_are_at_least_one_and_no_others(monkeypatch, cores, others, quota, expected):
    monkeypatch.setattr(threads, "usable_cpus", lambda: list(range(cores)))
    monkeypatch.setattr(threads, "physical_cores", len)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: quota)
    assert free_cores(others) == expected


def test_others_load_is_what_the_processors_did_without_this_process(tmp_path, monkeypatch):
    second = os.sysconf("SC_CLK_TCK")
    moments, own = iter([100.0, 110.0, 110.0]), iter([5.0, 9.0])
    monkeypatch.setattr(threads, "usable_cpus", lambda: [0, 2])
    monkeypatch.setattr(os, "nice", lambda _by: 0)
    monkeypatch.setattr(threads.time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(threads.time, "process_time", lambda: next(own))
    # user, of low priority, system, idle, waiting for a disk, interrupts, stolen; cpu1 is not ours.
    lines = (
        "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 {} 0 0 900 5 0 0 0 0 0\ncpu1 {} 0 0 9 0 0 0 0 0 0\ncpu2 7 {} {} 5 5 0 1 1 0 0\n"
    )
    write(tmp_path, "proc/stat", lines.format(0, 0, 0, 0))
    meter = LoadMeter(tmp_path)
    write(tmp_path, "proc/stat", lines.format(8 * second, 10 * second, 3 * second, 6 * second))
    # 14 seconds of work in 10, of which 4 were this process's own; work of low priority gives way.
    assert meter.others() == pytest.approx(1.0)


def test_without_the_systems_word_the_load_average_must_do(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "SHORTEST", 0.0)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.5, 1.0, 1.0))
    assert LoadMeter(tmp_path).others() == 3.5


def test_what_is_asked_for_goes_first(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv(threads.VARIABLE, "3")
    with use_threads() as used:
        assert used == torch.get_num_threads() == 3
    with use_threads(2) as used:
        assert used == torch.get_num_threads() == 2
    monkeypatch.delenv(threads.VARIABLE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with use_threads() as used:
        assert used == before
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "SHORTEST", 0.0)
    monkeypatch.setattr(threads, "free_cores", lambda _others: 4)
    with use_threads() as used:
        assert used == torch.get_num_threads() == 4
    assert torch.get_num_threads() == before


def test_numbers_that_make_no_sense(monkeypatch):
    with pytest.raises(UsageError, match=r"threads must be at least 1 \(got 0\)"), use_threads(0):
        pass
    monkeypatch.setenv(threads.VARIABLE, "many")
    with pytest.raises(UsageError, match="KNDB_THREADS must be a whole number"), use_threads():
        pass
