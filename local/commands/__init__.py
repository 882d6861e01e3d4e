"""The commands of `python -m local`, one module each; `show` prints for `demo`."""
