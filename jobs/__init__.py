"""The launchers, shipped as a package so that `dtb jobs` finds them."""
