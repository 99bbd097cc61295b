"""The tool that puts small faults into the code and asks the tests about them."""

import ast
import importlib
import inspect
import sys

from numba.core.dispatcher import Dispatcher

from rimsim.compiled import CompiledRecord


def test_a_function_is_a_kernel_by_its_decorator_or_by_a_call(script):
    """A function that no compiler takes is none, though it stands inside a module with kernels."""
    source = "@compiled\ndef a(): ...\n@compiled_part\ndef b(): ...\ndef f():\n def c(): ...\n return compiled(c)\n"
    kernels = script("mutants_tests").kernels_of(ast.parse(source))
    assert {kernel.name for kernel in kernels} == {"a", "b", "c"}


def test_each_function_that_numba_compiles_is_a_kernel(script):
    """The tool writes no notes into code that Numba compiles: Numba refuses a call of Python's there."""
    kernels_of = script("mutants_tests").kernels_of
    importlib.import_module("rimsim.agents.registry")
    records = [record.referred for record in CompiledRecord.__subclasses__()]
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "rimsim"]
    values = [value for module in modules for value in vars(module).values()]
    dispatchers = [value for value in (*values, *records) if isinstance(value, Dispatcher)]
    functions = {inspect.unwrap(dispatcher.py_func).__code__ for dispatcher in dispatchers}
    kernels = {}
    for code in functions:
        file = code.co_filename
        if file not in kernels:
            with open(file, encoding="utf-8") as source:
                kernels[file] = {kernel.name for kernel in kernels_of(ast.parse(source.read()))}
        assert code.co_name in kernels[file]
    assert records
    assert len(functions) > len(records)
