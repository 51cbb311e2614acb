"""``python -m sim`` is the ``irqscope`` command."""

from .cli import main

main()
