"""Old public names keep working for one release, with a warning that names the new one."""

import importlib
import subprocess
import sys

import pytest
from kit import cases

from rimsim.agents import Pacing
from rimsim.market.closed_round import ClosedRound
from rimsim.market.records import Arrivals
from rimsim.measures import RoundFacts


@cases(
    "module old new",
    ("rimsim.market", "Round", "ClosedRound"),
    ("rimsim.market.consumers", "Visits", "SlateVisits"),
    ("rimsim.market.arrivals", "Hawkes", "HawkesArrivals"),
)
def test_an_old_name_of_a_module_is_the_new_one_with_a_warning(module, old, new):
    """The same class; an unknown name stays an AttributeError."""
    loaded = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=rf"{module}\.{old} is now {module}\.{new}\. .* until 0\.3"):
        value = getattr(loaded, old)
    assert value is getattr(loaded, new)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = loaded.nothing_of_the_kind


@cases(
    "kind old new",
    (RoundFacts, "gamma", "decay"),
    (Arrivals, "index", "row"),
    (ClosedRound, "promised", "requirements"),
    (Pacing, "start", "start_price"),
)
def test_an_old_attribute_has_the_value_of_the_new_one_with_a_warning(kind, old, new):
    """The property reads the new attribute of the same object."""
    owner = type(kind.__name__, (), {old: kind.__dict__[old], new: 0.85})()
    with pytest.warns(DeprecationWarning, match=rf"{kind.__name__}\.{old} is now {kind.__name__}\.{new}\. "):
        assert getattr(owner, old) == 0.85


def test_a_script_with_an_old_name_sees_the_warning_with_its_own_line(tmp_path):
    """Python shows such a warning by default only where the script itself uses the name."""
    script = tmp_path / "mine.py"
    script.write_text("import math\nfrom rimsim.market import Round\n")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert (
        f"{script}:2: DeprecationWarning: rimsim.market.Round is now rimsim.market.ClosedRound"
        in ended.stderr
    )
