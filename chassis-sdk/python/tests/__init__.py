"""Tests of what is easier seen inside: `python3 -m unittest discover -s tests -t .` from the folder above. What a mesh makes of the kit is
tested with the mesh."""
