"""What a person can set, as frozen values that are checked where they are made.

``conf/`` has the defaults; `config` is what decides the data, `launch` what does not. Nothing is
written here; `images` reads the image set that a config names.
"""
