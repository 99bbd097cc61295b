"""Agents: what decides which slate answers an arrival; one file each."""

if __name__ != "rimsim.agents":
    raise ImportError("import rimsim.agents, not agents: the folder is installed as rimsim.agents")
