import asyncio, sys, tempfile, importlib
from pathlib import Path
from bench.figures import table

for name in sys.argv[1:]:
    with tempfile.TemporaryDirectory() as d:
        print(table(asyncio.run(importlib.import_module("bench.scale." + name).measure(Path(d)))), flush=True)
