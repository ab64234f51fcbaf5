from __future__ import annotations

import numpy as np

from sentryfuse.planning.importance import levelled


def test_every_block_has_a_mean_of_one_and_its_own_order():
    rng = np.random.default_rng(0)
    given = {"deep": rng.random(24, dtype=np.float32) * 1e-3, "shallow": rng.random(4, dtype=np.float32) * 50}
    for name, values in levelled(given).items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values.mean(), 1, rtol=1e-6)
        assert np.array_equal(values.argsort(), given[name].argsort())


def test_a_block_of_no_importance_stays_finite():
    assert not levelled({"idle": np.zeros(8, np.float32)})["idle"].any()
