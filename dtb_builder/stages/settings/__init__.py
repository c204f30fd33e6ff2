"""All settings, as frozen dataclasses that check their values when they are made.

``conf/`` holds the defaults. `config` has the settings that decide the data, `launch` those that do
not. This room writes nothing; `images` reads the image set that a config names.
"""
