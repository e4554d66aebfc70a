"""Modules that a command must not import: they take seconds, and no photograph needs them."""

import json
import subprocess
import sys
from collections.abc import Sequence

HEAVY = (
    "kornia",
    "torchvision",
    "torch._dynamo",
    "torch._inductor",
    "sympy",
    "lightning",
    "matplotlib",
    "diffusers",
    "huggingface_hub",
)

# Detection is run on made-up candidates, since its weights may be missing.
_CODE = """
import importlib, json, sys, torch
from retouch_common.faces import yunet

boxes = torch.tensor([[0.0, 0, 40, 40], [2, 2, 42, 42]])
candidates = torch.cat([boxes, torch.zeros(2, 10), torch.tensor([[0.9], [0.8]])], dim=1)
assert len(yunet._merge([candidates], [1.0], 0.6)) == 1
module, heavy, commands = json.loads(sys.argv[1])
for name, *arguments in commands:
    getattr(importlib.import_module(module), name).main(arguments, standalone_mode=False)
    found = set(heavy) & set(sys.modules)
    assert not found, f"{name} imports {', '.join(sorted(found))}"
"""


def check_imports(module: str, *commands: Sequence[str]) -> None:
    """Run click commands in a fresh process, one after another, and check that nothing of ``HEAVY`` was imported.

    Args:
        module: Where the commands are.
        commands: Names of commands with their arguments.

    Raises:
        subprocess.CalledProcessError: If something was, or a command fails.
    """
    subprocess.run([sys.executable, "-c", _CODE, json.dumps([module, HEAVY, commands])], check=True)
