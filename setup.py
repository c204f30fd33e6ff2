"""DTB_PASSES=1 compiles the passes into the package, whose wheel is then of one platform."""

import os
import runpy
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py


class BuildWithPasses(build_py):
    """Compile them where the package is put together."""

    def run(self) -> None:
        """Copy the package, then compile."""
        super().run()
        if not self.editable_mode:
            compiler = runpy.run_path("dtb_builder/network/compiler.py")
            folder = Path(self.build_lib, "dtb_builder", "network", "kernels")
            compiler["compile_passes"](folder / compiler["library_name"]())


class PlatformWheel(bdist_wheel):
    """A wheel for any Python of one platform, as ctypes loads the passes."""

    def get_tag(self) -> tuple[str, str, str]:
        """The tags of the wheel's name."""
        return "py3", "none", super().get_tag()[2]


class WithPasses(Distribution):
    """The package with the passes in it, which makes it one of a platform."""

    def has_ext_modules(self) -> bool:
        """Whether there is compiled code."""
        return True


if os.environ.get("DTB_PASSES") == "1":
    commands = {"build_py": BuildWithPasses, "bdist_wheel": PlatformWheel}
    setup(distclass=WithPasses, cmdclass=commands)
else:
    setup()
