"""A small shop with sellers, whose purchases are one CSV file."""

from importlib.util import module_from_spec, spec_from_file_location

from kit import ROOT

COLUMNS = "user=customer,item=sku,time=bought at"
SETTINGS = {
    "platform.model": "popularity-hp",
    "consumer.truth": "factors",
    "consumer.rank": 4,
    "arrivals.per_round": 60,
    "data.min_item_events": 1,
    "data.columns": COLUMNS,
}


def shop_purchases(**sizes):
    """Purchases that the example of the documentation makes up."""
    file = ROOT / "examples" / "shop.py"
    spec = spec_from_file_location("made_up_shop", file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.shop(**sizes)
