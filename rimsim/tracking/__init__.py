"""TensorBoard event files of the rounds of a run.

The folders of a run::

    RUN/events/AGENT/seed-SEED/   every measure by round and by arrivals, histograms, hyperparameters
    RUN/events/bands/AGENT/       means and bands over seeds, as three tags per measure; what retraining does
    RUN/events/about/             the run's command, settings and pictures

Tags are ``group/name``; ``docs/tracking.md`` lists them. Names of this package are imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
