from .agents import AgentTests as AgentTests
from .intensity import IntensityModelTests as IntensityModelTests
from .intensity import random_log as random_log
from .market import ArrivalTests as ArrivalTests
from .market import ConsumerTests as ConsumerTests
from .market import ProviderTests as ProviderTests
from .measures import MeasureTests as MeasureTests
from .measures import random_items as random_items
