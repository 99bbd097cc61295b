"""Named experiments, the closed-loop comparison, its report and the command line."""

if __name__ != "rimsim.scenarios":
    raise ImportError("import rimsim.scenarios, not scenarios: the folder is installed as rimsim.scenarios")
