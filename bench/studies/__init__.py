"""What cnnport measures of itself: each study makes a record under ``bench/results/`` or ``docs/``, and its page.

They take minutes to hours, go on where they stopped, and are started by ``python -m`` or a target of the Makefile.
"""
