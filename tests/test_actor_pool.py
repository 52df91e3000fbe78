"""How many actors a pool has, and what each of them gets."""

from __future__ import annotations

import pytest

from metacross.actor_pool import ActorPool, pool
from metacross.errors import UserError


def test_pools() -> None:
    assert pool("auto", {"CPU": 8.0, "GPU": 4.0}) == ActorPool(4, True, 1, 2)
    assert pool("auto", {"CPU": 64.0}) == ActorPool(16, False, 4, 4)
    assert pool(False, {"CPU": 2.0, "GPU": 1.0}) == ActorPool(1, False, 2, 2)
    assert pool("auto", {"CPU": 1.0}) == ActorPool(1, False, 1, 1)
    assert pool("auto", {"CPU": 2.0}, actors=2) == ActorPool(2, False, 1, 1)
    with pytest.raises(UserError, match=r"Ray has 2 CPUs\. Ask for at most 2"):
        pool("auto", {"CPU": 2.0}, actors=3)
    with pytest.raises(UserError, match="Ray sees no GPU"):
        pool(True, {"CPU": 2.0})
