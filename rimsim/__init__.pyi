from . import agents as agents
from . import data as data
from . import envs as envs
from . import errors as errors
from . import intensity as intensity
from . import market as market
from . import matching as matching
from . import measures as measures
from . import scenarios as scenarios
from .agents import make_agent as make_agent
from .data import load as load
from .market import Market as Market
from .scenarios import backtest as backtest
from .scenarios import compare as compare
from .scenarios import load_run as load_run
from .scenarios import sweep as sweep
from .scenarios import validate as validate

__version__: str
