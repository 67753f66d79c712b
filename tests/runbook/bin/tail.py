"""tail: the real one, but an operator ends `tail -f` with Ctrl-C, and here nobody does."""

import os
import sys

words = [word for word in sys.argv[2:] if word != "-f"]
os.execv("/usr/bin/tail", ["tail", *words])
