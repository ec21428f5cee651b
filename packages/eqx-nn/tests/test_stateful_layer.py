import pytest

import eqx_nn


def test_the_interface_itself_has_no_instances():
    with pytest.raises(TypeError, match="abstract class attributes __call__"):
        eqx_nn.StatefulLayer()


def test_a_layer_is_stateful_unless_it_knows_better():
    class Same(eqx_nn.StatefulLayer):
        def __call__(self, x, state, *, key=None):
            return x, state

    class Without(Same):
        def is_stateful(self):
            return False

    assert Same().is_stateful()
    assert not Without().is_stateful()
