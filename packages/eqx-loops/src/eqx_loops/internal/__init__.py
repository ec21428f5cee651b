"""What sibling packages and friendly libraries may use of eqx-loops, with no promise of stability."""

from .._maybe_set import maybe_set_p as maybe_set_p
from .._select_if_vmap import select_if_vmap_p as select_if_vmap_p
