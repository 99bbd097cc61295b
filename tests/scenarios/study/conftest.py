"""The purchases of a small shop, and their file."""

import pytest
from kit.shop import shop_purchases


@pytest.fixture(scope="module")
def purchases():
    """Purchases of a small shop with 24 sellers."""
    return shop_purchases(customers=300, items=120)


@pytest.fixture(scope="module")
def csv(purchases, tmp_path_factory):
    """The purchases as a CSV file."""
    path = tmp_path_factory.mktemp("shop") / "shop.csv"
    purchases.to_csv(path, index=False)
    return path
