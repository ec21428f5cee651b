import eqx_core
import eqx_core.internal


def test_every_registered_cache_is_cleared_each_time(monkeypatch):
    monkeypatch.setattr("eqx_core._clear_caches._CLEAR", [])
    one, two = {1: 1}, {2: 2}
    eqx_core.internal.register_cache(one.clear)
    eqx_core.internal.register_cache(two.clear)
    for _ in range(2):
        eqx_core.clear_caches()
        assert not one
        assert not two
        one[1] = two[2] = 0


def test_it_returns_nothing():
    assert eqx_core.clear_caches() is None


def test_what_was_cached_can_be_used_again():
    class Layer(eqx_core.Module):
        weight: int

    before = eqx_core.tree_at(lambda t: t.weight, Layer(1), 2)
    eqx_core.clear_caches()
    after = eqx_core.tree_at(lambda t: t.weight, Layer(1), 2)
    assert before == after
