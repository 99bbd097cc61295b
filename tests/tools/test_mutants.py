"""The tool that puts small faults into the code and asks the tests about them."""

import ast
import sys
from importlib import import_module
from pathlib import Path

from numba.core.dispatcher import Dispatcher

from rimsim.compiled import CompiledRecord


def test_a_function_is_a_kernel_by_its_decorator_or_by_a_call(script):
    """A function that no compiler takes is not a kernel, even if it defines one."""
    source = "@compiled\ndef a(): ...\n@compiled_part\ndef b(): ...\ndef f():\n def c(): ...\n return compiled(c)\n"
    kernels = script("mutants_tests").kernels_of(ast.parse(source))
    assert {kernel.name for kernel in kernels} == {"a", "b", "c"}


def test_a_decorator_is_a_line_of_its_function(script):
    """A fault in a decorator is asked of the tests that come through the function below it."""
    tree = ast.parse("class A:\n @property\n def b(self): ...\n def c(self): ...\n")
    function_at = script("mutants_tests").function_at
    names = [getattr(function_at(tree, line), "name", None) for line in range(1, 5)]
    assert names == [None, "b", "b", "c"]


def test_each_function_that_numba_compiles_is_a_kernel(script):
    """The tool finds all functions that Numba compiles, because Numba refuses the notes that it writes elsewhere."""
    kernels_of = script("mutants_tests").kernels_of
    import_module("rimsim.agents.registry")
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "rimsim"]
    values = [value for module in modules for value in vars(module).values()]
    records = [record.referred for record in CompiledRecord.__subclasses__()]
    codes = {value.py_func.__code__ for value in (*values, *records) if isinstance(value, Dispatcher)}
    assert records
    assert len(codes) > len(records)
    for file in {code.co_filename for code in codes}:
        kernels = {kernel.name for kernel in kernels_of(ast.parse(Path(file).read_text(encoding="utf-8")))}
        assert {code.co_name for code in codes if code.co_filename == file} <= kernels
