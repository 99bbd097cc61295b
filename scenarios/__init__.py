"""Named experiments, kinds of runs, reports and the command line.

The names of ``__init__.pyi`` are imported on first use, because reading a scenario's YAML must not load torch.
"""

import lazy_loader

if __name__ != "rimsim.scenarios":
    raise ImportError(
        "the folder scenarios is installed as rimsim.scenarios. Write import rimsim.scenarios instead of "
        "import scenarios"
    )

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
