"""Small networks run with one thread, and the user's number of threads is restored."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from helpers.networks import small_network
from torch import nn

import placeformer as pf
from placeformer.models import threads
from placeformer.models.threads import suitable_threads, threads_for


@pytest.fixture
def four():
    """The user has set four threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def net():
    return small_network(activation="nmda", alpha=2.0)


def test_threads_grow_with_the_weights_up_to_those_set(four, net, monkeypatch):
    assert threads_for(net) == 1
    assert threads_for(pf.load("nmda-a10")) == 1
    monkeypatch.setattr(threads, "WEIGHTS", 1000)
    assert threads_for(nn.Linear(50, 49)) == 2  # 2,499 weights
    assert threads_for(nn.Linear(1000, 1000)) == 4
    torch.set_num_threads(1)
    assert threads_for(nn.Linear(1000, 1000)) == 1


def test_the_user_decides(four, net, monkeypatch):
    monkeypatch.setenv("PLACEFORMER_NUM_THREADS", "3")
    assert threads_for(net) == 3
    for wrong in ("0", "two", "-1", "1.5", "²"):
        monkeypatch.setenv("PLACEFORMER_NUM_THREADS", wrong)
        with pytest.raises(ValueError, match="PLACEFORMER_NUM_THREADS must be a whole number of"):
            pf.memory_errors(net, n_walks=1, n_steps=16, progress=False)
        assert torch.get_num_threads() == 4


def seen_by(net, work):
    """Number of threads in every call of the last norm."""
    found = set()
    hook = net.norm.register_forward_hook(lambda *_: found.add(torch.get_num_threads()))
    try:
        work()
    finally:
        hook.remove()
    return found


@pytest.mark.parametrize(
    "work",
    [
        lambda net: pf.record(net, n_walks=2, n_steps=16, progress=False),
        lambda net: pf.memory_errors(net, n_walks=2, n_steps=16, progress=False),
        lambda net: pf.dose_response(net, alphas=[1.0], n_walks=2, n_steps=16, progress=False),
    ],
)
def test_work_on_a_small_network_takes_one_thread_and_restores_the_rest(four, net, work):
    assert seen_by(net, lambda: work(net)) == {1}
    assert torch.get_num_threads() == 4


def test_an_error_and_nested_contexts_restore_it_too(four, net):
    with pytest.raises(KeyError), suitable_threads(net):
        with suitable_threads(net):
            pass
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 4


def test_contexts_in_several_threads_are_left_in_any_order(four, net):
    barriers = Barrier(2), Barrier(2)

    def stay(first):
        with suitable_threads(net):
            barriers[0].wait(10)
            if not first:
                barriers[1].wait(10)
        if first:
            barriers[1].wait(10)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(stay, [True, False]))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 4
    assert torch.get_num_threads() == 4
