"""Run the modules of the pages in Node, for what needs no browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from zarkov_site.config.config import REPOSITORY

_SEARCH = (
    f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}"  # `make setup` installs Node if there is none
)
NODE = shutil.which("node", path=_SEARCH) or "node"
MODULES = REPOSITORY / "aggregates" / "static" / "zarkov"


def run_modules(folder: Path, code: str, given: Any, zone: str = "UTC") -> Any:
    """Return what the JavaScript `code` returns for `given`, both as JSON, on a machine in this time zone.

    The modules of the pages are copied to `folder`, where Node reads them as modules; `code` is the body of an async
    function of `given`, and imports them as `./NAME.js`.
    """
    shutil.copytree(MODULES, folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    script = folder / "main.js"
    script.write_text(
        f"const run = async (given) => {{ {code} }};\n"
        'const read = (await import("node:fs")).readFileSync(0, "utf8");\n'
        "console.log(JSON.stringify(await run(JSON.parse(read))));\n"
    )
    done = subprocess.run(
        [NODE, str(script)], input=json.dumps(given), env=os.environ | {"TZ": zone},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
