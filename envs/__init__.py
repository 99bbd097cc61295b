"""The market as Gymnasium environments, and wrappers of their actions."""

if __name__ != "rimsim.envs":
    raise ImportError("import rimsim.envs, not envs: the folder is installed as rimsim.envs")
