"""The DTB file format: its schema, its writers and its readers; numpy and h5py, no torch."""
